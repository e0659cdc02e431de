# Gancho in an image: the static binary, the trusted certificate authorities and the licences, and nothing else: no shell, and
# no /tmp, which a large transaction needs (compose and the chart mount one). It runs as an unprivileged user.
# The time zones are in the binary. Another image with Go will do, such as that of deploy/images.sh:
#   docker build --build-arg BUILD_IMAGE=... .
# For several architectures: docker buildx build --platform linux/amd64,linux/arm64 .
# The tags here follow their security fixes, so a build is not the same on another day. Where it has to be, pin what
# `docker buildx imagetools inspect golang:1.26-bookworm` says: --build-arg BUILD_IMAGE=golang:1.26-bookworm@sha256:...
ARG BUILD_IMAGE=golang:1.26-bookworm

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
ARG REVISION=
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -buildid= -X main.version=${VERSION} -X main.commit=${REVISION}" -o /gancho ./cmd/gancho
RUN set -e; .ci/licences /licences; \
    if [ -f /usr/share/doc/ca-certificates/copyright ]; then install -D -m 644 /usr/share/doc/ca-certificates/copyright /licences/ca-certificates/copyright; fi

FROM scratch
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="Gancho" \
      org.opencontainers.image.description="Webhooks from PostgreSQL's logical replication stream" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gancho /usr/local/bin/gancho
# The licences of everything that is linked into it, as they ask for.
COPY --from=build /licences /usr/share/doc/gancho/licences
USER 65532:65532
WORKDIR /etc/gancho
# 8620: health, metrics and the API of `run`; 8621: `listen`.
EXPOSE 8620 8621
STOPSIGNAL SIGTERM
# With the variables of the container and its configuration. 3: it answers, and is not ready.
HEALTHCHECK --interval=15s --timeout=6s --start-period=30s --retries=4 CMD ["/usr/local/bin/gancho", "health", "--config", "/etc/gancho/gancho.yaml"]
ENTRYPOINT ["/usr/local/bin/gancho"]
CMD ["run", "--config", "/etc/gancho/gancho.yaml"]
