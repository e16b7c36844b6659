// The definitions of ServiceMonitor and PodMonitor, which lie in the Prometheus operator's module.
module servicekeys.dev/testkit/monitors

go 1.24.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
