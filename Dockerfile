# The image of every role: `godzilla serve|gateway|accounts|chat|presence`, and the tools. Built by scripts/image.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUN_IMAGE=gcr.io/distroless/cc-debian12:nonroot

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# One layer: dependencies come from the lock file, and build results stay in the builder's caches between builds.
RUN --mount=type=cache,target=/usr/local/cargo/registry,id=godzilla-registry \
    --mount=type=cache,target=/src/target,id=godzilla-target \
    cargo build --profile dist --locked --package godzilla --bin godzilla \
    && mkdir -p /image/usr/local/bin /image/data \
    && cp target/dist/godzilla /image/usr/local/bin/godzilla

# Contains glibc and libgcc. Contains no shell and no package manager.
FROM ${RUN_IMAGE}
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="godzilla" \
    org.opencontainers.image.description="A self-hosted real-time chat backend for people who already use Socket.IO clients" \
    org.opencontainers.image.licenses="(MIT OR Apache-2.0) AND GPL-3.0-or-later" \
    org.opencontainers.image.version="${VERSION}" \
    org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image/usr/local/bin/godzilla /usr/local/bin/godzilla
# Only `serve` stores data. The folder belongs to its user, so that a volume mounted here does, too.
COPY --from=build --chown=65532:65532 --chmod=700 /image/data /data
USER 65532:65532
WORKDIR /data
# HTTP of serve and gateway, accounts, chat, gRPC of presence, /metrics and health.
EXPOSE 8080 8081 3000 50051 9100
STOPSIGNAL SIGTERM
# `healthcheck` requests /readyz at GODZILLA_ADMIN_LISTEN.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["/usr/local/bin/godzilla", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/godzilla"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--data-dir", "/data"]
