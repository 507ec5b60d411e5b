#!/usr/bin/env bash
# Everything that needs a GPU, in at most ten minutes, from a source checkout that need not be installed:
#
#     benchmarks/on_gpu.sh [--out FOLDER] [--images IMAGENETTE]
#
# `benchmarks/on_gpu.py` says what it does. PYTHON is the interpreter that has PyTorch, by default that of `make setup`.
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
if [ -z "${PYTHON:-}" ]; then
  if [ -x "$root/.venv/bin/python" ]; then PYTHON="$root/.venv/bin/python"; else PYTHON=python3; fi
fi
exec "$PYTHON" "$root/benchmarks/on_gpu.py" "$@"
