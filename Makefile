# Two commands to know: `make demo` shows the station at work, `make test` proves it.
# The first of them sets up .venv; llama.cpp is compiled then, which takes about three minutes on two cores.
# For an NVIDIA GPU: make setup-cuda

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc)

.PHONY: help setup-cuda demo certificate carry-over test reliability test-export test-training run check format setup bench measure measure-real measure-products measure-targets loop plc-acceptance

help:
	@echo "make demo    watch the station judge the shipped pictures; no camera, GPU or PLC needed"
	@echo "make test    run all tests"
	@echo "make reliability  kill, cut power, fill disks: 20 minutes; as root for the power cuts"
	@echo "make test-export   long tests of the exporter: other versions of transformers, llama.cpp's converter, fuzz"
	@echo "make test-training   training on a CPU, a few steps; installs PyTorch into .venvs/train"
	@echo "make run     start the station with config.yaml in the foreground; Ctrl-C ends it"
	@echo "make check   formatting, lint, types, import rules"
	@echo "make plc-acceptance   the long runs of the PLC's promises, half an hour; as root for the cable; writes run/plc-acceptance.md"
	@echo "make format  put the code into the project's form"
	@echo "make bench   time the station and the shipped model on this machine"
	@echo "make measure accuracy of the shipped model on 5,000 drawn parts; about an hour on two cores"
	@echo "make measure-products   base and shipped model on five products that no training has seen"
	@echo "make measure-targets    goal, measured and proof size of the accuracy targets T1 to T11; two hours"
	@echo "make measure-real  accuracy on real pictures in ../shared/data (or REAL_PICTURES); skipped without them"
	@echo "make loop    from wrong verdicts to a trained, promoted model and back, on drawn pictures; 8 minutes, installs PyTorch"
	@echo "make certificate  measure the shipped model's limits anew, after a change of what makes a score; 15 minutes"
	@echo "make setup   make .venv and install everything into it"
	@echo "make setup-cuda  the same with llama.cpp built for this machine's NVIDIA GPU; needs the CUDA toolkit (nvcc)"

demo: setup
	$(BIN)/station demo

# Kills and power cuts have their own target: how long a start takes on a busy machine is not for a test to judge.
test: setup
	$(BIN)/python -m pytest --ignore=tests/reliability

# RELIABILITY=long make reliability: 3,000 kills of each process, 1,000 power cuts; about an hour.
reliability: export RELIABILITY ?= full
reliability: setup
	$(BIN)/python -m pytest tests/reliability
	@cat run/reliability/reliability.md

# Three environments with PyTorch are installed for it, some GB each. TORCH names another build of PyTorch.
TORCH ?= torch==2.13.0
test-export: setup .venvs/4.51.3/.ready .venvs/4.57.6/.ready .venvs/5.17.0/.ready
	$(BIN)/python -m pytest -m export tests/export

.venvs/4.51.3/.ready: PACKAGES = transformers==4.51.3 peft==0.15.2
.venvs/4.57.6/.ready: PACKAGES = transformers==4.57.6 peft==0.17.1 sentencepiece 'protobuf<5'
.venvs/5.17.0/.ready: PACKAGES = transformers==5.17.0 peft==0.21.2
.venvs/%/.ready:
	$(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) numpy $(PACKAGES)
	@touch $@

run: setup
	@mkdir -p run/station/hot
	@echo "Put pictures into run/station/hot; 'station watch' in another terminal shows the verdicts. Ctrl-C ends."
	$(BIN)/station run --config config.yaml

plc-acceptance: setup
	@mkdir -p run
	$(BIN)/python -m tests.plc_acceptance --out run/plc-acceptance.md

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_import_rules.py

bench: setup
	$(BIN)/python -m tests.bench.speed

measure: setup
	$(BIN)/python models/measure.py --out run/measure

# 400 parts of each of five products: half an hour on two cores. Other models: MODELS="--model NAME=MANIFEST"
MODELS ?= --model base=run/base/manifest.json --model shipped=models/pins-tiny/manifest.json
measure-products: setup
	test -f run/base/manifest.json || $(BIN)/python models/export_gguf.py --base models/pins-tiny/base --out run/base
	$(BIN)/python models/measure_products.py --out run/products $(MODELS)

measure-targets: setup
	$(BIN)/python models/measure_targets.py --out run/targets

measure-real: setup
	$(BIN)/python -m tests.bench.measure_real

# What trains is not part of make test: PyTorch is some GB.
test-training: .venvs/train/.ready
	.venvs/train/bin/python -m pytest tests/training

# A station that can train, in an environment of its own. TORCH names another build of PyTorch.
loop: .venvs/train/.ready
	PYTHONPATH=models .venvs/train/bin/python -m tests.bench.site_loop --out run/loop

.venvs/train/.ready: pyproject.toml
	$(PYTHON) -m venv .venvs/train
	.venvs/train/bin/python -m pip install --quiet --disable-pip-version-check $(TORCH) -e '.[train,dev]'
	@touch $@

# Other parts than those of any training, of the demo and of `make measure` (seed 9002).
certificate: setup
	$(BIN)/python models/draw_frames.py --out run/pins-27-drawn --count 1600 --seed 7001
	LOGNAME=project $(BIN)/station calibrate thresholds run/pins-27-drawn --max-escape 0.01 --max-reject 0.01

# After a change that should move no score: proves it on 60 of those parts, in a minute.
carry-over: setup
	$(BIN)/python models/draw_frames.py --out run/pins-27-reference --seed 7001 --count 1600 \
		--like calibration/recipes/pins-27/certificate.json
	$(BIN)/station calibrate carry-over run/pins-27-reference

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# --no-cache-dir: else pip may take a build without CUDA from its cache. CUDA_ARCH=90 names another GPU than this machine's.
CUDA_ARCH ?= native
setup-cuda: setup
	@command -v nvcc >/dev/null || { echo "The CUDA toolkit is missing: nvcc is not on the PATH (often /usr/local/cuda/bin)."; exit 1; }
	CMAKE_ARGS="-DGGML_CUDA=on -DCMAKE_CUDA_ARCHITECTURES=$(CUDA_ARCH)" $(BIN)/python -m pip install \
		--disable-pip-version-check --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python \
		"$$($(BIN)/python -m pip freeze | grep '^llama_cpp_python==\|^llama-cpp-python==')"
	-$(BIN)/station check

setup: $(READY)

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed. Name it, as: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@command -v c++ >/dev/null && command -v cmake >/dev/null || \
		{ echo "A C++ compiler and cmake are needed to build llama.cpp. On Debian or Ubuntu: apt install build-essential cmake"; exit 1; }
	@$(PYTHON) -m venv .venv || \
		{ echo "Python's venv is missing. On Debian or Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "Installing. llama.cpp is compiled now, about three minutes on two cores."
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -e '.[dev,export,opcua]'
	@touch $@
