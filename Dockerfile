# The operator's image: one static binary, the authorities that the public trusts, and nothing else.
#
#   docker build --tag servicekey-operator:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag … --push .
#
# Each platform is built on itself or its emulation. Whoever publishes the image names the builder by the digest that they
# have looked at: `--build-arg RUST=rust@sha256:…`.
ARG RUST=rust:1.95.0-bookworm
FROM ${RUST} AS files
# The list of components (`--sbom`) names the crates of `Cargo.lock`, which only this stage has.
ARG BUILDKIT_SBOM_SCAN_STAGE=true
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates musl-tools
WORKDIR /source
COPY . .
ARG FEATURES=
RUN deploy/image/files /files

# `--build-context files=FOLDER` takes what `deploy/image/files FOLDER` has made elsewhere instead.
FROM scratch
COPY --from=files / /
USER 65532:65532
ENTRYPOINT ["/servicekey-operator"]
CMD ["run"]
