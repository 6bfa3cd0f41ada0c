#!/usr/bin/env bash
# The default pipeline for several seeds, each from nothing: data, tokenizer, training, 10,000 held-out problems; and then,
# not in the time, 100,000 others.
#
#     bash runs/default_seeds.sh [FOLDER] [SEED ...]        default: ../simple-llm-data/seeds 0 1 2 3 4
#
# The seed draws the data, the weights, the order of the batches and the 10,000. Prints counts for each seed, and wall and
# CPU seconds of everything that is in the time together.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-../simple-llm-data/seeds}
seeds=("${@:2}")
[ ${#seeds[@]} -gt 0 ] || seeds=(0 1 2 3 4)
python=${PYTHON:-.venv/bin/python}
TIMEFORMAT="    %R seconds of wall time, %U of CPU time"

for seed in "${seeds[@]}"; do
    model="$folder/seed-$seed"
    settings=("seed=$seed" "training.seed=$seed" "storage.path=$model/sequences.txt" "paths.model=$model")
    echo "seed $seed"
    time {
        $python data_generator.py "${settings[@]}"
        $python tokenizer.py "${settings[@]}" > /dev/null
        $python trainer.py "${settings[@]}"
        $python evaluate.py --model "$model" --seed "$seed"
    }
    $python evaluate.py --model "$model" --samples 100000 --seed 4242
done
