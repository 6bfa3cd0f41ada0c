#!/usr/bin/env bash
# A model that is right on every ordered pair of its range, of each operation it knows, and the certificate of it.
#
#     bash runs/prove_all_pairs.sh NAME [SEED [FOLDER [ROUNDS]]]      default: 0 ../simple-llm-data/NAME 5
#
#     NAME      runs/NAME.yaml and runs/NAME_data.yaml
#     proved        sums of 0 to 9999, base 16: 100,000,000 pairs                               (make prove)
#     plus-minus    sums and signed differences of 0 to 999, base 10: 1,000,000 pairs of each   (make plus-minus)
#
# Data, tokenizer, training; then all pairs. Where pairs are wrong the model is trained on with problems like them, and all
# pairs are checked again, until none is wrong or the rounds are used up (exit code 7). Stopped and started again, it goes on.
set -euo pipefail
cd "$(dirname "$0")/.."
name=$1
seed=${2:-0}
model=${3:-../simple-llm-data/$name}
rounds=${4:-5}
python=${PYTHON:-.venv/bin/python}
settings=(--data-config "runs/${name}_data.yaml" --train-config "runs/$name.yaml"
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
