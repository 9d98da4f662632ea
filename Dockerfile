# syntax=docker/dockerfile:1
FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY pipelines pipelines
# The benches and tests are declared in Cargo.toml; cargo wants their files to exist, not their content.
COPY tests/bench tests/bench
RUN cargo build --profile dist --locked --bin tracegate

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /build/target/dist/tracegate /tracegate
COPY deploy/image.yaml /etc/tracegate/config.yaml
USER 10001:10001
EXPOSE 4317 4318 8888 13133
ENTRYPOINT ["/tracegate"]
CMD ["--config", "/etc/tracegate/config.yaml"]
