#!/usr/bin/env bash
# A model that adds numbers of every length, trained on at most eight digits; the proof of it; and a sum of 10,000 digits.
#
#     bash runs/any_length.sh [SEED [FOLDER [BASE]]]          default: 0 ../simple-llm-data/any-length 10
#
# Exit code 7 where a context is wrong or the long sum is.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-0}
model=${2:-../simple-llm-data/any-length}
base=${3:-10}
python=${PYTHON:-.venv/bin/python}
settings=(--data-config runs/any_length_data.yaml --train-config runs/any_length.yaml
    "seed=$seed" "training.seed=$seed" "storage.path=$model/sequences.txt" "paths.model=$model"
    "numbers.base=$base" "numbers.max=$((base ** 8 - 1))")
TIMEFORMAT="    %R seconds of wall time, %U of CPU time"

echo "data, tokenizer, training"
time {
    $python data_generator.py "${settings[@]}"
    $python tokenizer.py "${settings[@]}" > /dev/null
    $python trainer.py "${settings[@]}"
}
echo "every context"
time $python evaluate.py --model "$model" --all-lengths
echo "a sum of two numbers of 10,000 digits, decoded and compared with Python's integers"
time $python -m runs.long_problems --model "$model" --digits 10000 --seed "$seed"
