// Command etcd is etcd itself: its module has no main of its own that `go install` takes. ../tools.sh builds it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() { etcdmain.Main(os.Args) }
