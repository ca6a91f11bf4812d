//go:build tools

// Package tools names what is built from this module, so that its pins stand in go.mod and go.sum.
package tools

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
