# What there is to do here; `make` alone lists it. Each target makes the environment it needs, in .venv, once.

PYTHON ?= python3
ARGS ?=
SEEDS ?= 20
JOBS ?= 1
LINES ?= 10000000
SEED ?= 1

VENV := .venv
BIN := $(VENV)/bin
MADE := $(VENV)/.made

PROMTOOL := $(or $(shell command -v promtool),$(VENV)/promtool/usr/bin/promtool)

PARALLEL := --numprocesses 4 --dist loadfile --no-loadscope-reorder

# The tests start hundreds of Python processes; each would compile the code again where the environment forbids to keep bytecode.
export PYTHONDONTWRITEBYTECODE :=

UNITS := $(wildcard deploy/systemd/*.service)
ANALYZE := $(or $(shell command -v systemd-analyze),$(VENV)/systemd/usr/bin/systemd-analyze)

SQUID := $(VENV)/squid/usr/sbin/squid
SQUID_PACKAGES := squid squid-common squid-langpack libecap3 libltdl7 libnetfilter-conntrack3 libnfnetlink0

EDGES := $(VENV)/edges/.made
GOPROXY := $(VENV)/edges/goproxy
EDGES_PACKAGES := tinyproxy-bin privoxy nginx apache2-bin haproxy dante-server microsocks libapr1 libaprutil1 libjansson4 liblua5.3-0 \
	libmbedcrypto7 libmbedtls14 libmbedx509-1 libnghttp2-14 libopentracing-c-wrapper0 libopentracing1 libpcre3 libwrap0

RSYSLOG := $(VENV)/rsyslog/usr/sbin/rsyslogd
RSYSLOG_PACKAGES := rsyslog rsyslog-kafka libestr0 libfastjson4 liblognorm5 librdkafka1 libsasl2-2

UV_COMPILE = $(BIN)/uv pip compile --universal --python-version 3.11.7 --generate-hashes --only-binary :all: \
	--no-header --no-emit-index-url --no-emit-find-links --quiet

.DEFAULT_GOAL := help
.PHONY: help setup run test coverage mutation soak fuzz live browser bench lint types rules reference lock sbom changelog

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(MADE)  ## Make .venv with the unproxy command; downloads about 600 MB the first time.
	@echo "ready: $(BIN)/unproxy"

run: $(MADE)  ## The whole pipeline on this machine, with the sample; more with ARGS="suricata:FILE --once".
	@$(BIN)/unproxy up $(ARGS)

# An ordinary user runs the sensor's tests in namespaces of its own; tests/conftest.py prints what needs more than that.
test: $(MADE)  ## All tests, three files at a time; some with ARGS="tests/schemas -x".
ifneq ($(ARGS),)
	$(if $(findstring tests/producers/sensor,$(ARGS)),sh tests/as_root.sh) $(BIN)/python -m pytest $(ARGS)
else ifeq ($(shell id -u),0)
	$(BIN)/python -m pytest $(PARALLEL)
else
	$(BIN)/python -m pytest $(PARALLEL) --ignore tests/producers/sensor
	sh tests/as_root.sh $(BIN)/python -m pytest $(PARALLEL) tests/producers/sensor
endif

coverage: $(MADE)  ## How much of the code the tests execute; of some with ARGS="tests/schemas".
	@mkdir -p .coverage
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(or $(ARGS),$(PARALLEL))
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutation: $(MADE)  ## Which small changes of the pure code no test notices; of a part with ARGS="streams/assess".
	$(BIN)/python -m tests.mutation $(or $(ARGS),streams/correlate streams/assess)

soak: $(MADE)  ## Break the running pipeline, seed after seed, and check each run; SEEDS=100 JOBS=2.
	$(BIN)/python -m tests.faults --seeds $(SEEDS) --jobs $(JOBS) $(ARGS)

fuzz: $(MADE)  ## Ten million damaged lines of every dialect through the pipeline; fewer with LINES=100000 SEED=7, of each ARGS="--dialect all".
	$(BIN)/python -m tests.fuzz --lines $(LINES) --seed $(SEED) $(ARGS)

browser: $(MADE)  ## A web page in Chromium against a running `up`: it must read and change nothing; needs chromium.
	$(BIN)/python -m tests.live.browser $(ARGS)

live: $(MADE) $(SQUID) $(EDGES) $(GOPROXY)  ## The sensor beside real proxies and real clients, as root; a part with ARGS="--mode block --rate 0" or ARGS=--edges.
	$(BIN)/python -m tests.live $(ARGS)

bench: $(MADE)  ## The figures: the parts beside their floors, restarts, recovery times.
	$(BIN)/python -m bench $(ARGS)

lint: $(MADE)  ## Style, formatting, import layers, spelling and retired words.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell -D - -D .codespell/retired.txt
	$(BIN)/python -m tests.words

types: $(MADE)  ## Types, strictly, tests included.
	$(BIN)/mypy

rules: $(PROMTOOL) $(ANALYZE)  ## Alert rules, checked and tested, and how far units are confined; fetches promtool and systemd.
	$(PROMTOOL) check rules deploy/prometheus/alerts.yml
	$(PROMTOOL) check config deploy/prometheus/prometheus.yml
	$(PROMTOOL) test rules deploy/prometheus/alerts_test.yml
	@# Exposure from 0 to 100. The sensor reads the kernel and has no limit here; its unit states what it needs and why.
	LD_LIBRARY_PATH=$$(echo $(VENV)/systemd/usr/lib/*/systemd) $(ANALYZE) security --offline=true --no-pager --threshold=20 $(filter-out %-sensor.service,$(UNITS))

reference: $(MADE)  ## Write docs/reference and deploy/unproxy.example.toml again from the code.
	$(BIN)/python -m tools.reference

# Versions stay as they are where pyproject.toml allows it. uv reads them from the file it writes; the other two locks follow the first.
lock: $(MADE)  ## Write the three locks; versions change only with ARGS=--upgrade, or ARGS="--upgrade-package NAME".
	cp requirements.lock $(VENV)/new.lock
	$(UV_COMPILE) pyproject.toml --all-extras $(ARGS) --output-file $(VENV)/new.lock > /dev/null
	{ echo "# Everything, for development and \`unproxy up\`; written by \`make lock\`."; cat $(VENV)/new.lock; } > requirements.lock
	{ echo "# What worker, sink and producer need on a server; written by \`make lock\`."; \
	  $(UV_COMPILE) pyproject.toml --constraints requirements.lock; } > deploy/requirements.lock
	{ echo "# What builds the wheel for the image; written by \`make lock\`."; \
	  echo hatchling | $(UV_COMPILE) - --constraints requirements.lock; } > deploy/build.lock

changelog: $(MADE)  ## Show the changelog's next section, from changelog.d; write it with ARGS=--yes.
	$(BIN)/towncrier build $(or $(ARGS),--draft)

sbom: $(MADE)  ## Write dist/unproxy.cdx.json: Python packages and Kafka's jars, as CycloneDX; of another environment with ARGS=/its/bin/python.
	$(BIN)/python -m tools.sbom dist/unproxy.cdx.json $(ARGS)

$(MADE): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11, 7))' || { echo >&2 \
	"$(PYTHON) is missing or older than Python 3.11.7; name a newer one: make PYTHON=/path/to/python3.12 $(MAKECMDGOALS)"; exit 2; }
	@echo "making $(VENV) (downloads about 600 MB the first time)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

# Debian's package, unpacked and not installed. A list of packages that is out of date is renewed, which takes root.
$(VENV)/promtool/usr/bin/promtool:
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo >&2 \
	"promtool is missing, and there is no apt-get to fetch it; install Prometheus 2.42 or newer and put promtool on PATH"; exit 2; }
	@mkdir -p $(VENV)/promtool
	@cd $(VENV)/promtool && rm -f *.deb \
	&& { apt-get download --quiet prometheus || { apt-get update --quiet && apt-get download --quiet prometheus; }; } > apt.log 2>&1 \
	|| { tail -3 apt.log >&2; echo >&2 "promtool could not be fetched; try apt-get update as root, or put promtool on PATH"; exit 2; }
	@dpkg -x $(VENV)/promtool/prometheus_*.deb $(VENV)/promtool && rm $(VENV)/promtool/*.deb && touch $@

# Likewise: the tool that scores units, with the libraries that it wants beside it.
$(VENV)/systemd/usr/bin/systemd-analyze:
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo >&2 \
	"systemd-analyze is missing, and there is no apt-get to fetch it; install systemd 252 or newer"; exit 2; }
	@mkdir -p $(VENV)/systemd
	@cd $(VENV)/systemd && rm -f *.deb \
	&& { apt-get download --quiet systemd libsystemd-shared || { apt-get update --quiet && apt-get download --quiet systemd libsystemd-shared; }; } > apt.log 2>&1 \
	|| { tail -3 apt.log >&2; echo >&2 "systemd could not be fetched; try apt-get update as root"; exit 2; }
	@for package in $(VENV)/systemd/*.deb; do dpkg -x $$package $(VENV)/systemd || exit 2; done
	@rm $(VENV)/systemd/*.deb && touch $@

# Likewise: squid, its error pages and the libraries that few machines have.
$(SQUID):
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo >&2 "squid is Debian's here, and there is no apt-get to fetch it"; exit 2; }
	@mkdir -p $(VENV)/squid
	@cd $(VENV)/squid && rm -f *.deb \
	&& { apt-get download --quiet $(SQUID_PACKAGES) || { apt-get update --quiet && apt-get download --quiet $(SQUID_PACKAGES); }; } > apt.log 2>&1 \
	|| { tail -3 apt.log >&2; echo >&2 "squid could not be fetched; try apt-get update as root"; exit 2; }
	@for package in $(VENV)/squid/*.deb; do dpkg -x $$package $(VENV)/squid || exit 2; done
	@rm $(VENV)/squid/*.deb && touch $@

# Likewise: the proxies of the edge lab; one of them is a Python package, in a folder of its own.
$(EDGES): tests/live/edges/requirements.txt
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo >&2 "the proxies are Debian's here, and there is no apt-get to fetch them"; exit 2; }
	@mkdir -p $(VENV)/edges
	@cd $(VENV)/edges && rm -f *.deb \
	&& { apt-get download --quiet $(EDGES_PACKAGES) || { apt-get update --quiet && apt-get download --quiet $(EDGES_PACKAGES); }; } > apt.log 2>&1 \
	|| { tail -3 apt.log >&2; echo >&2 "the proxies could not be fetched; try apt-get update as root"; exit 2; }
	@for package in $(VENV)/edges/*.deb; do dpkg -x $$package $(VENV)/edges || exit 2; done
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --upgrade \
		--target $(VENV)/edges/python -r tests/live/edges/requirements.txt
	@rm $(VENV)/edges/*.deb && touch $@

# A proxy of Go modules, where there is Go; the edge lab runs without it where there is none.
$(GOPROXY): tests/live/edges/goproxy/main.go $(EDGES)
	@if command -v go > /dev/null; then cd tests/live/edges/goproxy && CGO_ENABLED=0 go build -o $(CURDIR)/$@ . ; \
	else echo >&2 "no go here: the edge lab runs without goproxy"; fi

# Likewise: rsyslog with its Kafka output. The test of deploy/shippers/rsyslog.conf has it made.
$(RSYSLOG):
	@command -v apt-get > /dev/null && command -v dpkg > /dev/null || { echo >&2 "rsyslog is Debian's here, and there is no apt-get to fetch it"; exit 2; }
	@mkdir -p $(VENV)/rsyslog
	@cd $(VENV)/rsyslog && rm -f *.deb \
	&& { apt-get download --quiet $(RSYSLOG_PACKAGES) || { apt-get update --quiet && apt-get download --quiet $(RSYSLOG_PACKAGES); }; } > apt.log 2>&1 \
	|| { tail -3 apt.log >&2; echo >&2 "rsyslog could not be fetched; try apt-get update as root"; exit 2; }
	@for package in $(VENV)/rsyslog/*.deb; do dpkg -x $$package $(VENV)/rsyslog || exit 2; done
	@rm $(VENV)/rsyslog/*.deb && touch $@
