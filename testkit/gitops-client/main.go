// Command gitops-client says what tools make of objects: Flux by the unmodified kstatus library, Argo CD by a health
// script in the Lua interpreter that it uses, and kubectl by the code of its `wait` command.
//
// It is told on its standard input, in JSON, what to look at: see order. It prints one JSON object: see report.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// order is what to look at, and the text of the health script.
type order struct {
	Script  string           `json:"script"`
	Objects []map[string]any `json:"objects"`
}

// report is what was seen, in the order of the objects.
type report struct {
	Verdicts []verdict `json:"verdicts"`
}

// verdict is what is made of one object.
type verdict struct {
	// KStatus is one of InProgress, Current, Failed, Terminating.
	KStatus string `json:"kstatus"`
	// KStatusMessage is what kstatus has to say about it.
	KStatusMessage string `json:"kstatus_message"`
	// Health is what the script says: Healthy, Progressing, Degraded or Suspended.
	Health string `json:"health"`
	// HealthMessage is what people read beside it.
	HealthMessage string `json:"health_message"`
	// Ready tells whether `kubectl wait --for=condition=Ready` would end.
	Ready bool `json:"ready"`
}

func main() {
	var told order
	decoder := json.NewDecoder(os.Stdin)
	// Generations are compared as integers.
	decoder.UseNumber()
	if err := decoder.Decode(&told); err != nil {
		fail(fmt.Errorf("the order is unreadable: %w", err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	seen := report{Verdicts: []verdict{}}
	for _, object := range told.Objects {
		found, err := judge(ctx, told.Script, object)
		if err != nil {
			fail(err)
		}
		seen.Verdicts = append(seen.Verdicts, found)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func judge(ctx context.Context, script string, content map[string]any) (verdict, error) {
	object := &unstructured.Unstructured{Object: integers(content).(map[string]any)}
	computed, err := status.Compute(object)
	if err != nil {
		return verdict{}, fmt.Errorf("kstatus can't read `%s`: %w", object.GetName(), err)
	}
	health, err := runHealthScript(ctx, script, object.Object)
	if err != nil {
		return verdict{}, fmt.Errorf("the health script fails on `%s`: %w", object.GetName(), err)
	}
	ready, err := isReady(ctx, object)
	if err != nil {
		return verdict{}, fmt.Errorf("kubectl can't wait for `%s`: %w", object.GetName(), err)
	}
	return verdict{
		KStatus:        computed.Status.String(),
		KStatusMessage: computed.Message,
		Health:         health.Status,
		HealthMessage:  health.Message,
		Ready:          ready,
	}, nil
}

// integers makes of each number what a client of the API server makes of it.
func integers(value any) any {
	switch value := value.(type) {
	case map[string]any:
		for name, member := range value {
			value[name] = integers(member)
		}
	case []any:
		for index, member := range value {
			value[index] = integers(member)
		}
	case json.Number:
		if number, err := value.Int64(); err == nil {
			return number
		}
		number, _ := value.Float64()
		return number
	}
	return value
}
