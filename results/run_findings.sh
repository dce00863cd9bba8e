#!/usr/bin/env bash
# The small experiments behind docs/findings.md: real digits (`mnist5k`, in the package),
# minutes each, three seeds. One setting is changed at a time.
#
#   results/run_findings.sh [flare|strength|fl_plas|federations ...]     default: these, seven hours
#   JOBS=2 results/run_findings.sh strength                  two runs at once: a quarter faster
#
# Everything is resumed: stop it at any time and give the same command again. Each group
# is a folder; `uv run run_experiments.py --report=results/findings-flare` tables it. Its
# copy in `results/published` is replaced: `git diff` shows what differs from ours, and
# `git checkout results/published` brings ours back.
set -uo pipefail
# Kernels of AVX2 alone: CPUs with and without AVX-512 then give the same digits; `ALL` is
# faster on those with.
export ONEDNN_MAX_CPU_ISA="${ONEDNN_MAX_CPU_ISA:-AVX2}"
cd "$(dirname "$0")/.."

grid() {  # group, flags
  local folder="results/findings-$1"
  shift
  uv run run_experiments.py --output_dir="$folder" --seeds=0,1,2 \
    --jobs="${JOBS:-1}" "$@" </dev/null
}

# One of ten clients attacks; 1,500 images, six rounds of two epochs.
federation=(--dataset=mnist5k --model=lenet --num_clients=10 --malicious_fraction=0.1
  --max_train_images=1500 --max_test_images=500 --rounds=6 --local_epochs=2
  --batch_size=16 --optimizer=adam --learning_rate=0.001)

# Is it the rule that stops the attacker, or the attacker's place in the list, the
# temperature or the tie rule? The clipped MMD of the authors' code ranks ties by index.
flare() {
  local attacks=('krum_backdoor {}' 'plr_matching {}'
    'krum_backdoor {"form":"self","boost":10.0}' 'coomed_backdoor {"boost":10.0}')
  for attack in "${attacks[@]}"; do
    for place in --nomalicious_first --malicious_first; do
      local common=("${federation[@]}" "$place" --attack="${attack%% *}"
        --attack_settings="${attack#* }")
      grid flare "${common[@]}" --defense=fedavg,flare
      for settings in '{"temperature_mode":"mean_votes"}' \
        '{"temperature_mode":"mean_votes","mmd":"authors"}'; do
        grid flare "${common[@]}" --defense=flare --defense_settings="$settings"
      done
    done
  done
}

# What does an attack that misses its target need?
strength() {
  for settings in '{}' '{"boost":3.0}' '{"boost":10.0}' '{"mal_epochs":10}' \
    '{"num_targets":5}' '{"form":"self"}' '{"form":"self","boost":10.0}'; do
    grid strength "${federation[@]}" --attack=krum_backdoor \
      --attack_settings="$settings" --defense=fedavg,krum
  done
  for settings in '{}' '{"boost":3.0}' '{"boost":10.0}' '{"mal_epochs":10}' \
    '{"num_targets":5}'; do
    grid strength "${federation[@]}" --attack=coomed_backdoor \
      --attack_settings="$settings" --defense=fedavg,median
  done
}

# How much of FL-PLAS is its private classifiers alone, and what does a backdoor do that
# sits in the shared features? 16 of 20 clients attack.
fl_plas() {
  for split in --noas_published --as_published; do
    local common=(--preset=quick_trigger --partition=dirichlet --alpha=0.2 "$split")
    local plain=("${common[@]}" --attack=trigger --attack_settings='{}')
    grid fl_plas "${plain[@]}" --defense=local,fl_plas,fedavg
    grid fl_plas "${plain[@]}" --defense=fl_plas --shared_cut=last_layer
    local hidden=("${common[@]}" --attack=feature_backdoor --defense=fl_plas)
    for settings in '{}' '{"eta":0.01}'; do
      grid fl_plas "${hidden[@]}" --shared_cut=last_layer --attack_settings="$settings"
    done
    for settings in '{"layer":"flatten"}' '{"layer":"flatten","eta":0.01}'; do
      grid fl_plas "${hidden[@]}" --attack_settings="$settings"
    done
  done
}

# FLARE Sec. 7.3: does it hold with more clients, more attackers, other numbers of auxiliary
# images, clients that know two or five classes? The attack is one that reaches the plain
# mean. What does FLARE cost where there is none?
federations() {
  local common=("${federation[@]}" --attack=krum_backdoor
    --attack_settings='{"form":"self","boost":10.0}')
  compare() {
    grid federations "${common[@]}" "$@" --defense=fedavg,flare
    grid federations "${common[@]}" "$@" --defense=flare \
      --defense_settings='{"temperature_mode":"mean_votes"}'
  }
  unattacked() {
    grid federations "${federation[@]}" "$@" --attack=none --malicious_fraction=0 \
      --defense=fedavg,flare
  }
  compare
  for share in 0.1 0.3; do
    compare --num_clients=20 --malicious_fraction="$share"
  done
  unattacked --num_clients=20
  for classes in 2 5; do
    local few=(--partition=classes --classes_per_client="$classes")
    compare "${few[@]}"
    unattacked "${few[@]}"
  done
  for share in 0.05 0.2; do  # 5 % of fewer clients would be nobody
    compare --num_clients=20 --malicious_fraction="$share"
  done
  for images in 2 5 20; do  # the common start is trained on them, so FedAvg's as well
    compare --aux_size="$images"
  done
  for clients in 50 30 40; do
    compare --num_clients="$clients"
  done
}

# What do rules lose that are told of three malicious clients where there are none? FLARE
# Table 2 on CIFAR-10 at scale 0.02; needs DATA=whole path of the data, five minutes.
byzantine() {
  uv run run_experiments.py --output_dir=results/findings-byzantine --seeds=0 \
    --data_dir="${DATA:?must name the folder of the data sets}" --preset=flare_cifar10 \
    --attack=none --defense=krum,trimmed_mean,bulyan --num_byzantine=3 --rounds=6 \
    --local_epochs=1 --max_train_images=16667 --max_test_images=1414 </dev/null
}

for group in "${@:-flare strength fl_plas federations}"; do
  for name in $group; do
    "$name"
    uv run python -m tff_defenses.experiments.publish "results/findings-$name" </dev/null
  done
done
