# docker build -t tracegate .
# The image has the program, the libraries it is linked to, certificates and a configuration: no shell, no package
# manager. It runs as 10001:10001 with a read-only root, and writes nowhere but, when told to, in /var/lib/tracegate.

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends gcc libc6-dev ca-certificates \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
COPY src src
COPY pipelines pipelines
# The benches are declared in Cargo.toml; cargo wants their files to exist.
COPY tests/bench tests/bench
# `dist` is the profile of releases; PROFILE=dev builds in a fraction of the time, for trying out the image itself.
ARG PROFILE=dist
RUN cargo install --path . --locked --profile "$PROFILE" --root /out

# The root file system of the image: the program, the C library and the loader where this architecture looks for them,
# certificates, and what resolving names and user ids needs.
WORKDIR /image
RUN mkdir -p etc/ssl/certs etc/tracegate var/lib/tracegate tmp \
 && cp /out/bin/tracegate tracegate \
 && ldd tracegate | grep -o '/[^ ]*' | sort -u | xargs -I {} cp --parents --dereference {} . \
 && cp /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ \
 && echo 'hosts: files dns' > etc/nsswitch.conf \
 && echo 'tracegate:x:10001:10001::/var/lib/tracegate:/nonexistent' > etc/passwd \
 && echo 'tracegate:x:10001:' > etc/group \
 && chown 10001:10001 var/lib/tracegate && chmod 0700 var/lib/tracegate && chmod 1777 tmp
COPY deploy/image.yaml etc/tracegate/config.yaml

FROM scratch
COPY --from=build /image/ /
ENV TRACEGATE_DATA_DIR=/var/lib/tracegate
USER 10001:10001
WORKDIR /var/lib/tracegate
EXPOSE 4317 4318 8888 13133
# Asks where image.yaml lets health_check listen; a configuration of your own that moves it should bring a probe too.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/tracegate", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/tracegate"]
CMD ["--config", "/etc/tracegate/config.yaml"]
