# The services, one image each: make image, or
#
#   docker build -f deploy/images/services.Dockerfile --target authz -t vmcp-authz:dev .
#
# from the root of the repository, with target authz, authserver, aggregator, bridge or operator. Envoy runs from its own image,
# envoyproxy/envoy:distroless-v1.40.0.
FROM golang:1.26.8 AS build
WORKDIR /src
COPY . .
ARG VERSION=devel
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X vmcp/internal/version.built=$VERSION" -o /out/ ./services/... ./cmd/bridge ./cmd/drain

# The operator has a module of its own, with the libraries of Kubernetes.
FROM build AS build-operator
RUN cd services/operator && CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X vmcp/internal/version.built=$VERSION" -o /out/ .

# No shell, no packages: the authorities of public servers, and one program that runs as nobody in particular.
FROM scratch AS base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
USER 65532:65532

FROM base AS authz
COPY --from=build /out/authz /authz
COPY --from=build /out/drain /drain
ENTRYPOINT ["/authz"]

FROM base AS authserver
COPY --from=build /out/authserver /authserver
ENTRYPOINT ["/authserver"]

FROM base AS aggregator
COPY --from=build /out/aggregator /aggregator
ENTRYPOINT ["/aggregator"]

FROM base AS bridge
COPY --from=build /out/bridge /bridge
ENTRYPOINT ["/bridge"]

FROM base AS operator
COPY --from=build-operator /out/operator /operator
ENTRYPOINT ["/operator"]
