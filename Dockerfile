# The operator's image: one static binary and the public certificate authorities.
#
#   docker build --tag servicekey-operator:0.1.0 .
#   docker buildx build --platform linux/amd64,linux/arm64 --tag … --push .
#
# Docker builds each platform natively or by emulation. If you publish the image, pin the builder by digest:
# `--build-arg RUST=rust@sha256:…`.
ARG RUST=rust:1.95.0-bookworm
FROM ${RUST} AS files
# The list of components (`--sbom`) names the crates of `Cargo.lock`, which only this stage has.
ARG BUILDKIT_SBOM_SCAN_STAGE=true
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates musl-tools
WORKDIR /source
COPY . .
ARG FEATURES=
RUN deploy/image/files /files

# `--build-context files=FOLDER` uses the output of an earlier `deploy/image/files FOLDER` instead.
FROM scratch
COPY --from=files / /
USER 65532:65532
ENTRYPOINT ["/servicekey-operator"]
CMD ["run"]
