#!/usr/bin/env bash
# All that is to be measured on one GPU, within ten minutes; what is worth most comes first:
#
#   python -m diffad_jax.main --config=configs/mvtec_fast.py:bottle --config.data.root=data/mvtec \
#     --config.data.textures=data/dtd --mode=record --num_examples=8000 --output=bottle.zip
#   ROOT_OF_PHOTOS=data/mvtec RECORDED=bottle.zip OUT=runs/gpu bash benchmarks/gpu_run.sh
#
# The recording is made on any machine; the GPU machine needs the extra [backbone], but no
# TensorFlow. A part that fails or takes too long leaves its log, and the next one begins. Each
# part's results are in OUT as soon as it ends, so the run can be cut off at any moment: parts.tsv
# lists the parts with their exit statuses and seconds. SIZE=toy runs all parts at a test's size.
set -uo pipefail

ROOT_OF_PHOTOS=${ROOT_OF_PHOTOS:?names the folder of the photos}
RECORDED=${RECORDED:?names the recording}
OUT=${OUT:-runs/gpu}
CATEGORY=${CATEGORY:-bottle}
PYTHON=${PYTHON:-python}
BUDGET=${BUDGET:-570}  # seconds in all
STEPS=${STEPS:-4000}   # of denoiser and segmenter; the recipe has 12,000
SIZE=${SIZE:-full}

fast=(--config.data.recorded="$RECORDED" --config.diffusion.steps="$STEPS"
  --config.segmentation.steps="$STEPS")
train=(--config=configs/mvtec_fast.py --dtypes bfloat16 --rounds 3 --seconds 1)
runs=50
patchcore=()
if [[ $SIZE == toy ]]; then
  fast+=(--config.image_size=64 --config.autoencoder.steps=2 --config.autoencoder.channels=8
    --config.diffusion.channels=8 --config.diffusion.head_channels=8 --config.diffusion.steps=2
    --config.segmentation.channels=4 --config.segmentation.steps=2
    --config.training.validation_examples=2)
  train=(--config=configs/demo.py --dtypes bfloat16 --rounds 1 --steps 1 --stages segmenter
    --runs jax)
  patchcore=(--config.image_size=64)
  runs=2
fi

# part NAME SECONDS COMMAND …: at most so many seconds, and at most what is left of the budget.
part() {
  local name=$1 seconds=$2 status=0 begun=$SECONDS
  shift 2
  if ((seconds > BUDGET - SECONDS)); then seconds=$((BUDGET - SECONDS)); fi
  if ((seconds <= 0)); then
    printf '%s\tleft out\t0\n' "$name" >>"$OUT/parts.tsv"
    return
  fi
  timeout --signal=TERM --kill-after=10 "$seconds" "$@" >"$OUT/$name.log" 2>&1 || status=$?
  printf '%s\t%s\t%s\n' "$name" "$status" "$((SECONDS - begun))" >>"$OUT/parts.tsv"
}

diffad=("$PYTHON" -m diffad_jax.main --config.data.root="$ROOT_OF_PHOTOS")
mkdir -p "$OUT"
printf 'part\tstatus\tseconds\n' >"$OUT/parts.tsv"
part mvtec_fast 420 "${diffad[@]}" --config="configs/mvtec_fast.py:$CATEGORY" "${fast[@]}" \
  --workdir="$OUT/fast"
for batch in 64 1; do
  part "latency_$batch" 40 "${diffad[@]}" --workdir="$OUT/fast" --mode=benchmark --overwrite \
    --num_runs="$runs" --config.evaluation.batch_size="$batch"
done
part train 180 "$PYTHON" -m benchmarks.train "${train[@]}" --json "$OUT/train.json"
part patchcore 90 "${diffad[@]}" --config="configs/patchcore.py:$CATEGORY" "${patchcore[@]}" \
  --workdir="$OUT/patchcore"
for method in fast patchcore; do
  cp "$OUT/$method/metrics.json" "$OUT/$method.json" 2>/dev/null || true
done
cat "$OUT/parts.tsv"
