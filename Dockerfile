# The image of the gateway: the binary of `make release-binary`, the C library and CA certificates.

FROM rust:1.95.0-bookworm AS build
WORKDIR /build
# The toolchain of the image. With rust-toolchain.toml, clippy and rustfmt would be downloaded.
ENV RUSTUP_TOOLCHAIN=1.95.0
# The commit that leadgate_build_info shows: docker build --build-arg LEADGATE_COMMIT=$(git rev-parse HEAD).
ARG LEADGATE_COMMIT=unknown
COPY . .
RUN make release-binary && mkdir /build/empty

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/dist/leadgate /usr/local/bin/leadgate
# The working directory has the store, unless store.url names another path. Mount a volume here to keep it.
COPY --from=build --chown=65532:65532 /build/empty /var/lib/leadgate
WORKDIR /var/lib/leadgate
USER 65532:65532
# Ports of gRPC, of other replicas (cluster.listen) and of the admin pages. To be reachable from outside of the container, each requires an
# address that is not on loopback. docs/deploy.md lists what else they require.
EXPOSE 50051 50052 9464
# Without TLS. With server.tls, set LEADGATE_ADDR=https://127.0.0.1:50051, LEADGATE_TLS_CA to the file of the CA, and
# LEADGATE_SERVER_NAME to a name in the certificate of the server.
HEALTHCHECK --interval=10s --timeout=6s CMD ["/usr/local/bin/leadgate", "health"]
ENTRYPOINT ["/usr/local/bin/leadgate"]
CMD ["serve", "--config", "/etc/leadgate/leadgate.toml"]
