# The server alone: one static binary, certificates for what it asks over TLS, and a
# folder of its own for what it keeps.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN make build && mkdir /state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/authnzrv /usr/local/bin/authnzrv
COPY --from=build --chown=65532:65532 /state /var/lib/authnzerver
USER 65532:65532
ENV AUTHNZERVER_LISTEN=0.0.0.0 AUTHNZERVER_BASEDIR=/var/lib/authnzerver
VOLUME /var/lib/authnzerver
EXPOSE 13431
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/usr/local/bin/authnzrv", "health"]
ENTRYPOINT ["/usr/local/bin/authnzrv"]
