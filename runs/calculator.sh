#!/usr/bin/env bash
# One model of all four operations that writes its work as on paper: trained, proved for numbers of every length and any
# number of summands, proved once more by the file that travels with it, and asked.
#
#     bash runs/calculator.sh [SEED [FOLDER [section.key=value ...]]]      default: 0 ../simple-llm-data/calculator
#
# Exit code 7 where a context is wrong, or not right by more than float32 can round, or an answer is wrong.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-0}
model=${2:-../simple-llm-data/calculator}
python=${PYTHON:-.venv/bin/python}
settings=(--data-config runs/calculator_data.yaml --train-config runs/calculator.yaml
    "seed=$seed" "training.seed=$seed" "storage.path=$model/sequences.txt" "paths.model=$model" "${@:3}")
TIMEFORMAT="    %R seconds of wall time, %U of CPU time"

echo "data, tokenizer, training"
time {
    $python data_generator.py "${settings[@]}"
    $python tokenizer.py "${settings[@]}" > /dev/null
    $python trainer.py "${settings[@]}"
}
echo "every context"
time $python evaluate.py --model "$model" --all-lengths
echo "every context once more, by the folder itself: numpy alone"
time $python "$model/verify.py"
echo "two random numbers of 100 digits in each operation, and a product of 1,000 by 1,000, compared with Python's integers"
time {
    $python -m runs.long_problems --model "$model" --seed "$seed"
    $python -m runs.long_problems --model "$model" --seed "$seed" --digits 1000 --operations multiply
}
$python inference.py --model "$model" --trace "57*46" "1742/56"
