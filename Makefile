# The checks themselves are in .ci/run, which needs no make.

.PHONY: build demo test format vet staticcheck race faults switch browser openapi vuln fuzz bench nightly ci image clean

build:
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w' -o bin/tollbook ./cmd/tollbook

demo: build
	bin/tollbook demo

test format vet staticcheck race faults switch browser openapi vuln fuzz bench nightly:
	.ci/run $@

ci:
	.ci/run

image:
	docker build -t tollbook .

clean:
	rm -rf bin
