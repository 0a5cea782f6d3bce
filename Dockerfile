# The image of the gateway: the binary of a release, the C library and CA certificates. The context is the unpacked archive of the
# release, in which this file is too:
#
#   docker build --tag leadgate:0.1.0 leadgate-0.1.0-x86_64-linux

# An empty folder. The base image has no shell to make one.
FROM scratch AS empty
WORKDIR /empty

FROM gcr.io/distroless/cc-debian12:nonroot
COPY leadgate /usr/local/bin/leadgate
COPY LICENSE THIRD-PARTY-LICENSES.txt /usr/share/doc/leadgate/
# The working directory has the store, unless store.url names another path. Mount a volume here to keep it.
COPY --from=empty --chown=65532:65532 /empty /var/lib/leadgate
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
