#!/usr/bin/env bash
# A model that is right on every one of the 100,000,000 ordered pairs of 0 to 9999, and the certificate of it.
#
#     bash runs/prove_4_digits.sh [SEED [FOLDER [ROUNDS]]]        default: 0 ../simple-llm-data/proved 5
#
# Data, tokenizer, training; then all pairs. Where pairs are wrong the model is trained on with problems like them, and all
# pairs are checked again, until none is wrong or the rounds are used up (exit code 7). Stopped and started again, it goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
seed=${1:-0}
model=${2:-../simple-llm-data/proved}
rounds=${3:-5}
python=${PYTHON:-.venv/bin/python}
settings=(--data-config runs/prove_4_digits_data.yaml --train-config runs/prove_4_digits.yaml
    "seed=$seed" "training.seed=$seed" "storage.path=$model/sequences.txt" "paths.model=$model")
TIMEFORMAT="    %R seconds of wall time, %U of CPU time"

echo "data, tokenizer, training"
time {
    $python data_generator.py "${settings[@]}"
    $python tokenizer.py "${settings[@]}" > /dev/null
    $python trainer.py "${settings[@]}"
}
for ((round = 1; ; round++)); do
    echo "all pairs, round $round"
    code=0
    time { $python evaluate.py --model "$model" --exhaustive --yes || code=$?; }
    if [ $code -ne 7 ] || [ "$round" -ge "$rounds" ]; then
        exit $code
    fi
    time $python -m runs.repair --model "$model" --seed "$round"
done
