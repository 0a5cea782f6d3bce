# The image of the gateway: the binary of `make release-binary`, the C library, CA certificates, and nothing else.

FROM rust:1.95.0-bookworm AS build
WORKDIR /build
# The image's own toolchain; rust-toolchain.toml would have clippy and rustfmt fetched as well.
ENV RUSTUP_TOOLCHAIN=1.95.0
COPY . .
RUN make release-binary && mkdir /build/empty

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /build/target/release/leadgate /usr/local/bin/leadgate
# Where the store is, unless the settings say otherwise: a volume, to keep it.
COPY --from=build --chown=65532:65532 /build/empty /var/lib/leadgate
WORKDIR /var/lib/leadgate
USER 65532:65532
# gRPC, and the pages for operators. To be reached from outside, each needs an address that is not on loopback and
# insecure_plaintext = true in its section ([server], [admin]).
EXPOSE 50051 9464
HEALTHCHECK --interval=10s --timeout=6s CMD ["/usr/local/bin/leadgate", "health"]
ENTRYPOINT ["/usr/local/bin/leadgate"]
CMD ["serve", "--config", "/etc/leadgate/leadgate.toml"]
