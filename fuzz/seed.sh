#!/bin/sh
# Fills fuzz/corpus/TARGET with the files to start from: those in fuzz/seeds, those that come with the program and those of
# its tests.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
for target in scene experiment overrides hdf5; do mkdir -p "$here/corpus/$target"; done

for seed in "$here"/seeds/*/*; do
    [ -e "$seed" ] || continue
    target=$(basename "$(dirname "$seed")")
    cp "$seed" "$here/corpus/$target/seed_$(basename "$seed")"
done

# copy TARGET FOLDER NAME...: files by name below a folder, under names made of their paths
copy() {
    target=$1 folder=$2
    shift 2
    for pattern in "$@"; do
        find "$here/../$folder" -type f -name "$pattern" | while read -r file; do
            cp "$file" "$here/corpus/$target/$(echo "${file#"$here/../"}" | tr / _)"
        done
    done
}
copy scene scenes '*.ron'
copy experiment configs '*.ron'
copy hdf5 tests/data '*.hdf5' '*.h5'

number=0
while read -r line; do
    number=$((number + 1))
    echo "$line" | tr ' ' '\n' > "$here/corpus/overrides/$number"
done << 'LINES'
learner.discount=0.98
seeds=[0,1,2] environments=8
learner.discount=0.97,0.99 training.warmup=0..3
dataset.path=data/kitchen-v2.hdf5 dataset.collect=None
skill_model=None
task.elements.0=Kettle task.order=Listed
observation.noise=false episode.steps=100
pretraining.updates=20_000 pretraining.batch=1e3
dataset.collect.demonstrator=Kitchen(variety:0.5)
LINES
