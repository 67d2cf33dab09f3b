# The S3 server of the tests; images.sh builds it from the binary that tools.sh made.
FROM scratch
COPY versitygw /usr/local/bin/versitygw
USER 65532
ENTRYPOINT ["/usr/local/bin/versitygw"]
