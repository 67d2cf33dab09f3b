// Command gitops does by Flux's own library what its kustomize-controller does with manifests, once they are read and
// built: it applies them, looks for drift, waits by kstatus, and prunes. The contract tests call it.
//
//	gitops KUBECONFIG apply|diff|wait|prune <MANIFESTS
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/fluxcd/cli-utils/pkg/kstatus/polling"
	"github.com/fluxcd/pkg/ssa"
	"github.com/fluxcd/pkg/ssa/normalize"
	"github.com/fluxcd/pkg/ssa/utils"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The Kustomization that the manifests are of.
const name, namespace = "kitchen", "flux-system"

func main() {
	if err := run(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, verb string) error {
	objects, err := utils.ReadObjects(os.Stdin)
	if err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	live, err := client.New(config, client.Options{})
	if err != nil {
		return err
	}
	poller := polling.NewStatusPoller(live, live.RESTMapper(), polling.Options{})
	owner := ssa.Owner{Field: "kustomize-controller", Group: "kustomize.toolkit.fluxcd.io"}
	manager := ssa.NewResourceManager(live, poller, owner)
	manager.SetOwnerLabels(objects, name, namespace)
	if err := normalize.UnstructuredList(objects); err != nil {
		return err
	}

	told := ssa.NewChangeSet()
	switch verb {
	case "apply":
		told, err = manager.ApplyAllStaged(ctx, objects, ssa.DefaultApplyOptions())
	case "diff":
		for _, object := range objects {
			entry, _, _, err := manager.Diff(ctx, object, ssa.DefaultDiffOptions())
			if err != nil {
				return err
			}
			told.Add(*entry)
		}
	case "wait":
		err = manager.Wait(objects, ssa.WaitOptions{Interval: time.Second, Timeout: 10 * time.Second, FailFast: true})
	case "prune":
		options := ssa.DefaultDeleteOptions()
		options.Inclusions = manager.GetOwnerLabels(name, namespace)
		told, err = manager.DeleteAll(ctx, objects, options)
	default:
		err = errors.New("apply, diff, wait or prune, not " + verb)
	}
	if err != nil {
		return err
	}
	fmt.Println(told)
	return nil
}
