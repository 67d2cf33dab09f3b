# The OCI registry of the tests; images.sh builds it from the binary that tools.sh made.
FROM scratch
COPY registry /usr/local/bin/registry
USER 65532
ENTRYPOINT ["/usr/local/bin/registry"]
