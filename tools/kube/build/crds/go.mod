// The definitions of Cilium's policies, which its Go module holds as files. No program is built of it.
module fathom.test/crds

go 1.24.0

require github.com/cilium/cilium v1.18.4
