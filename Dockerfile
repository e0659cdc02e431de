# Gancho in an image: the static binary on a small Debian (bash is there for health checks), as an unprivileged user.
# The time zones are in the binary. Other images will do, such as those of deploy/images.sh:
#   docker build --build-arg BUILD_IMAGE=... --build-arg BASE_IMAGE=... .
# The tags here follow their security fixes, so a build is not the same on another day. Where it has to be, pin what
# `docker buildx imagetools inspect golang:1.26-bookworm` says: --build-arg BUILD_IMAGE=golang:1.26-bookworm@sha256:...
ARG BUILD_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /gancho ./cmd/gancho
RUN set -e; .ci/licences /licences; \
    if [ -f /usr/share/doc/ca-certificates/copyright ]; then install -D -m 644 /usr/share/doc/ca-certificates/copyright /licences/ca-certificates/copyright; fi

FROM ${BASE_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /gancho /usr/local/bin/gancho
# The licences of everything that is linked into it, as they ask for.
COPY --from=build /licences /usr/share/doc/gancho/licences
USER 65532:65532
WORKDIR /etc/gancho
# 8620: health, metrics and the API of `run`; 8621: `listen`.
EXPOSE 8620 8621
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/gancho"]
CMD ["run", "--config", "/etc/gancho/gancho.yaml"]
