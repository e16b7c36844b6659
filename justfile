# Every check and every generator of this project, defined once. `.ci/run` and `.github/workflows/` call these recipes.
#
# `.ci/setup` installs what they need. A recipe that lacks a tool names the Debian package of it.

set shell := ["bash", "-euo", "pipefail", "-c"]
set positional-arguments

export PATH := justfile_directory() / "target/tools/bin:" + env("PATH")

cargo_deny := "0.20.2"
mdbook := "0.5.4"

# The test targets by recipe. `unit` takes every target that is not named here.
docs_tests := "api_is_documented conditions_are_documented decisions_are_documented metrics_are_documented the_book_holds_together"
integration_tests := "cloud_foundry control_plane demo gateway ibm_cloud kubelet library_broker model_api_server monitoring osb_conformance postgres postgres_broker"
other_recipes := docs_tests + " " + integration_tests + " install operator"

# The oldest Rust that the project promises to build with.
rust_version := `sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml`

# Show the recipes
[private]
default:
    @just --list --unsorted

# Install everything that the recipes need
[group('start')]
setup:
    .ci/setup

# Check which tools are there, and name the package of each missing one
[group('start')]
tools *names:
    @.ci/need "$@"
    @printf 'every tool is there\n'

# Run every check; `.ci/run` does nothing else
[group('check')]
all: lint docs test traces image

# Check formatting, lints, documentation comments and dependencies
[group('check')]
lint: fmt clippy doc crypto deny

# Run all tests, as the README says. The recipes below run them in parts
[group('check')]
test: (_say "all tests") (_need "cc cargo go postgres python3-venv")
    cargo test --locked

# Run the tests that need neither a control plane nor another server; the models are among them
[group('check')]
unit: (_say "tests that need no server") (_need "cc cargo")
    cargo test --locked --lib --bin servicekey-operator $(.ci/other-tests {{ other_recipes }})
    cargo test --locked --doc

# Explore every state that the decisions can reach, or those of the named explorations, and count them
[group('check')]
models *names: (_say "models of the lifecycle") (_need "cc cargo")
    cargo run --locked --bin lifecycle-models -- "$@"

# Simulate the whole operator, for example `just simulate --minutes 60`
[group('check')]
simulate *options: (_say "simulation of the operator") (_need "cc cargo")
    cargo run --locked --release -p testkit --bin simulate -- "$@"

# Simulate a year of keys whose certificates end after a week, for example `just year --keys 100`
[group('check')]
year *options: (_say "simulation of a year") (_need "cc cargo")
    cargo run --locked --release -p testkit --bin year -- "$@"

# Run the tests of the test kit, the demo, the alerts and the brokers, on real servers
[group('check')]
integration: (_say "tests on real servers") (_need "cc cargo go postgres python3-venv")
    cargo build --locked --examples
    cargo test --locked --test {{ replace(integration_tests, " ", " --test ") }}

# Test what is in `deploy/` on the `oldest` or the `newest` Kubernetes
[group('check')]
kubernetes version *filters: (_say "what is in deploy/, on the " + version + " Kubernetes") (_need "cc cargo go")
    .ci/kubernetes {{ version }} cargo test --locked --test install -- "${@:2}"

# Test each capability of the operator on a control plane, or those that match the filters
[group('check')]
operator *filters: (_say "the operator on a control plane") (_need "cc cargo go postgres python3-venv")
    cargo build --locked --examples
    cargo test --locked --test operator -- "$@"

# Test the traces, which are a feature of their own
[group('check')]
traces: (_say "the tests of the feature otlp") (_need "cc cargo go")
    cargo test --locked --features otlp --test operator traces_are_sent

# Check generated files, the book, and the tests of the documentation
[group('check')]
docs: (_say "generated files") (_need "cc cargo git") crds && book
    git diff --exit-code -- crds || { echo 'error: `crds/` differs from `src/api`; commit what `just crds` wrote' >&2; exit 1; }
    cargo test --locked --test {{ replace(docs_tests, " ", " --test ") }}

# Build the image for this machine, and run it as the chart does
[group('check')]
image: (_say "the image") (_need "cc cargo musl-gcc buildah bwrap ca-certificates")
    deploy/image/check

# Check that the project builds with the oldest Rust that it promises
[group('check')]
msrv: (_say "Rust " + rust_version) (_need "cc cargo")
    rustup toolchain install {{ rust_version }} --profile minimal
    cargo +{{ rust_version }} check --locked --workspace --all-features

# Check the formatting
[group('parts of lint')]
fmt: (_say "formatting") (_need "cargo")
    cargo fmt --all --check

# Run clippy, without and with all features
[group('parts of lint')]
clippy: (_say "lints") (_need "cc cargo")
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --workspace --all-targets --all-features --locked -- -D warnings

# Build the documentation of the code, that of private items too
[group('parts of lint')]
doc: (_say "documentation of the code") (_need "cc cargo")
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked --quiet --document-private-items

# Check that `ring` is the only crypto provider
[group('parts of lint')]
crypto: (_say "exactly one crypto provider") (_need "cargo")
    cargo tree --workspace --all-features --locked --edges normal,build -i ring --depth 0
    ! cargo tree --workspace --all-features --locked --target all -i aws-lc-rs --depth 0 2>/dev/null | grep . \
        || { echo 'error: `aws-lc-rs` is in the tree beside `ring`; see `cargo tree -i aws-lc-rs`' >&2; exit 1; }

# Check the bans, licences, sources and advisories of the dependencies
[group('parts of lint')]
deny: (_say "dependencies: bans, licences, sources, advisories") (_need "cc cargo git")
    .ci/cargo-tool cargo-deny {{ cargo_deny }}
    .ci/deny

# Build the book
[group('parts of docs')]
book: (_say "the book") (_need "cc cargo")
    # Without a server and a search index it is built in half the time.
    .ci/cargo-tool mdbook {{ mdbook }} --no-default-features
    mdbook build docs

# Write every generated file
[group('generate')]
generate: (_need "cc cargo go") crds manifests pages
    UPDATE_DOCS=1 cargo test --locked --test osb_conformance
    UPDATE_DOCS=1 cargo test --locked --test operator tenants::abuse

# Write `crds/`
[group('generate')]
crds: (_need "cc cargo")
    cargo run --quiet --locked -- crds --output-dir crds

# Write the plain manifests, and the definitions in the chart
[group('generate')]
manifests: (_need "cc cargo go")
    UPDATE_MANIFESTS=1 cargo test --locked --test install are_generated

# Write the pages that come from the code alone
[group('generate')]
pages: (_need "cc cargo")
    UPDATE_DOCS=1 cargo test --locked --test {{ replace(docs_tests, " ", " --test ") }}

_need tools:
    @.ci/need {{ tools }}

_say what:
    @printf '\n== %s\n' "{{ what }}"
