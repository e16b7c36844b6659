package main

import (
	"context"
	"os"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic/fake"
	"k8s.io/kubectl/pkg/cmd/wait"
)

// isReady tells whether `kubectl wait --for=condition=Ready` would end with the object as it is. It looks once, as with
// `--timeout=0`, at a server that has nothing but the object.
func isReady(ctx context.Context, object *unstructured.Unstructured) (bool, error) {
	config := genericclioptions.NewConfigFlags(false)
	nowhere, none := "http://127.0.0.1:0", os.DevNull
	config.APIServer, config.KubeConfig = &nowhere, &none
	flags := wait.NewWaitFlags(config, genericiooptions.NewTestIOStreamsDiscard())
	flags.ForCondition, flags.Timeout = []string{"condition=Ready"}, 0
	options, err := flags.ToOptions(nil)
	if err != nil {
		return false, err
	}
	kind := object.GroupVersionKind()
	plural, _ := meta.UnsafeGuessKindToResource(kind)
	options.DynamicClient = fake.NewSimpleDynamicClient(runtime.NewScheme(), object)
	info := &resource.Info{
		Name:      object.GetName(),
		Namespace: object.GetNamespace(),
		Mapping:   &meta.RESTMapping{Resource: plural, GroupVersionKind: kind},
	}
	_, met, err := options.ConditionFn[0](ctx, info, options)
	// That it does not hold is an error to kubectl, since it may not wait for it.
	if err != nil && strings.HasPrefix(err.Error(), "condition not met") {
		return false, nil
	}
	return met, err
}
