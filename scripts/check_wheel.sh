#!/usr/bin/env bash
# The source distribution and the wheel that is made of it, installed alone with each extra, and used.
#
#   scripts/check_wheel.sh FOLDER [EXTRA…]        by default base, which is none, and all of them; wants uv
#
# FOLDER gets both in dist/, and an environment for each extra. uv's variables hold: UV_CONSTRAINT, UV_FIND_LINKS, …
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
work=$(realpath -m "$1")
shift
[ $# -gt 0 ] || set -- base images serve mcp serve,safety train all
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1
port=18766

rewrites() { neuroprompt enhance "boy on a horse" | grep "^boy on a horse, "; }

serves() { # with the options of $@
  neuroprompt serve --port $port "$@" &
  local server=$!
  until curl -sf http://127.0.0.1:$port/readyz; do
    kill -0 $server || exit 1
    sleep 2
  done
  echo
  curl -sf http://127.0.0.1:$port/ | grep -o "<title>.*</title>"
  curl -sf http://127.0.0.1:$port/v1/enhance --json '{"prompts": "boy on a horse"}' | grep -o '"text":"boy on a horse, [^"]*"'
  kill -TERM $server
  wait $server
}

lacks() { # what is said where $1 is missing, of the command after it
  local extra=$1 said
  shift
  said=$("$@" 2>&1) && return 1
  grep -F "neuroprompt[$extra]" <<<"$said"
}

use() {
  case $1 in
    base)
      rewrites
      lacks images neuroprompt image "a castle" -o a.png
      lacks images neuroprompt grid "a castle" -o grid.png
      lacks images,serve neuroprompt serve
      lacks train python -c "from neuroprompt import PPOTrainer"
      ;;
    images)
      neuroprompt grid "boy on a horse" -o grid.png
      neuroprompt score --reward-model embedded --prompt "boy on a horse" grid.png
      lacks train neuroprompt optimize "a castle" --to-pairs pairs
      ;;
    serve)
      serves --generator none --rewards none
      lacks images neuroprompt serve
      ;;
    serve,safety) python -c "from neuroprompt.server.safety import PictureCheck; PictureCheck(0.8)" ;;
    mcp) neuroprompt mcp --help >/dev/null ;;
    train) python -c "from neuroprompt import PPOTrainer; import neuroprompt.training.sft, neuroprompt.training.grpo" ;;
    all)
      serves --check-pictures 0.8 --votes votes.sqlite
      neuroprompt votes export --help >/dev/null
      neuroprompt mcp --help >/dev/null
      ;;
  esac
}

rm -rf "$work/dist"
uv build --quiet --out-dir "$work/dist" "$root"
wheel=$(echo "$work"/dist/*.whl)
ls -sh "$work"/dist
for extra in "$@"; do
  echo "--- $extra"
  environment=$work/$extra
  uv venv --quiet --clear "$environment"
  uv pip install --quiet --python "$environment" "neuroprompt[${extra#base}] @ file://$wheel"
  uv pip check --quiet --python "$environment"
  mkdir -p "$environment/use"
  (cd "$environment/use" && PATH=$environment/bin:$PATH && use "$extra")
  du -sh "$environment" | cut -f1
done
