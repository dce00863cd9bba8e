#!/usr/bin/env bash
# Runs what README's results come from, the most telling first, and publishes it.
#
#   results/run_published.sh ~/data [processes]
#
# Everything is resumed: stop it at any time and give the same command again. Settings,
# seeds and scales are fixed here before the runs. Hours are for two cores (the machine
# of the published runs: 2 cores, 24 GiB, no GPU), per `--dry_run`.
set -uo pipefail
if [[ -z "${1:-}" ]]; then
  echo "$0 needs the folder of the data sets, got nothing: call $0 ~/data [processes]." >&2
  exit 2
fi
case "$1" in
  [/~]*) data="$1" ;;
  *) data="$PWD/$1" ;;  # seen from the caller's folder, which is left here
esac
cd "$(dirname "$0")/.." || exit 1
jobs="${2:-1}"

reproduce() {  # table, output folder's name, further flags
  local name="$1" folder="results/$2"
  shift 2
  uv run run_experiments.py --reproduce="$name" --output_dir="$folder" \
    --data_dir="$data" --jobs="$jobs" "$@" </dev/null
  uv run python -m tff_defenses.experiments.publish "$folder" </dev/null
}

# FL-PLAS Tables 4(a) and 5(a), MNIST, both splits: an hour; Table 5 takes over Table 4's
# runs.
for table in table4 table5; do
  small=("fl_plas:$table" "fl_plas-$table-scale0.05" --dataset=mnist --scale=0.05
    --attack=trigger)
  reproduce "${small[@]}"
  reproduce "${small[@]}" --defense=fedavg,fltrust,fl_plas,local \
    --variants="split as published"
done
# FLARE Table 3 at a fiftieth of the work: 5 to 6 minutes a run on an idle machine with
# Fashion-MNIST, a minute or two with CIFAR-10. Figures of the same runs take them over.
few=(--scale=0.02 --seeds=0)
for dataset in fashion_mnist cifar10; do
  reproduce flare:table3 flare-table3-scale0.02 "${few[@]}" --dataset="$dataset"
done
reproduce flare:fig1 flare-fig1-scale0.02 "${few[@]}"
reproduce flare:fig6 flare-fig6-scale0.02 "${few[@]}" --dataset=fashion_mnist,cifar10
reproduce flare:fig8 flare-fig8-scale0.02 "${few[@]}"
# FL-PLAS Tables 4(a) and 5(a) in full: about an hour a run.
reproduce fl_plas:table4 fl_plas-table4 --dataset=mnist
reproduce fl_plas:table5 fl_plas-table5 --dataset=mnist
# FLARE Tables 2 and 4, and three seeds of the columns that matter most.
for table in table4 table2; do
  reproduce "flare:$table" "flare-$table-scale0.02" "${few[@]}" \
    --dataset=fashion_mnist,cifar10
done
for table in table3 table4 table2; do
  reproduce "flare:$table" "flare-$table-scale0.02" --scale=0.02 --seeds=0,1,2 \
    --dataset=fashion_mnist,cifar10 --defense=fedavg,krum,flare
done
