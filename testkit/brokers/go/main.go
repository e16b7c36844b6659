// A broker on the library brokerapi, which sells keys of one database to the operator's tests.
//
// Its bindings are in memory. With -in-background it makes and revokes them in the background, one at a time: the
// first look at an operation finds it in progress, the next one finds it done. What breaks the rules is answered with
// the library's own errors.
//
// /testing is for the tests alone: which bindings there are, and to hold back what is under way.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"reflect"
	"sync"
	"time"

	"code.cloudfoundry.org/brokerapi/v13"
	"code.cloudfoundry.org/brokerapi/v13/domain"
	"code.cloudfoundry.org/brokerapi/v13/domain/apiresponses"
)

const instance = "training-app-db"

var catalog = []domain.Service{
	{
		ID: "offering-database", Name: "database", Description: "keys that can be read again",
		Bindable: true, BindingsRetrievable: true,
		Plans: []domain.ServicePlan{
			{ID: "plan-database-small", Name: "small", Description: "small"},
			{ID: "plan-database-brief", Name: "brief", Description: "brief", MaximumPollingDuration: seconds(5)},
		},
	},
	{
		ID: "offering-metrics", Name: "metrics", Description: "keys that are shown once",
		Bindable: true,
		Plans:    []domain.ServicePlan{{ID: "plan-metrics-basic", Name: "basic", Description: "basic"}},
	},
}

func seconds(number int) *int { return &number }

// Whether a key says when it ends; the operator must be told by the bind and by the fetch alike.
var metadata = domain.BindingMetadata{ExpiresAt: time.Now().AddDate(1, 0, 0).UTC().Format(time.RFC3339)}

// What is under way with a key.
const (
	nothing   = ""
	binding   = "bind"
	unbinding = "unbind"
)

// One binding.
type key struct {
	request     request
	Credentials map[string]any `json:"credentials"`
	Work        string         `json:"work,omitempty"`
	lookedAt    bool
}

// What a binding is made from.
type request struct {
	service, plan string
	parameters    map[string]any
}

type broker struct {
	// The library's interface. What is not written down below is never called.
	domain.ServiceBroker
	inBackground bool
	held         bool
	keys         map[string]*key
	// How many bindings were ever made, and how often that was asked for.
	made, binds int
}

func (b *broker) Services(context.Context) ([]domain.Service, error) {
	return catalog, nil
}

func (b *broker) Bind(_ context.Context, instanceID, bindingID string, details domain.BindDetails, asyncAllowed bool) (domain.Binding, error) {
	b.binds++
	if instanceID != instance {
		return domain.Binding{}, apiresponses.ErrInstanceDoesNotExist
	}
	wanted := request{service: details.ServiceID, plan: details.PlanID, parameters: map[string]any{}}
	if len(details.RawParameters) > 0 && json.Unmarshal(details.RawParameters, &wanted.parameters) != nil {
		return domain.Binding{}, apiresponses.ErrRawParamsInvalid
	}
	switch wanted.parameters["role"] {
	case nil, "reader", "writer":
	default:
		words := errors.New("`role` is neither reader nor writer")
		return domain.Binding{}, apiresponses.NewFailureResponse(words, http.StatusBadRequest, "bad-role")
	}
	known, exists := b.keys[bindingID]
	if exists && !reflect.DeepEqual(known.request, wanted) {
		return domain.Binding{}, apiresponses.ErrBindingAlreadyExists
	}
	if exists && known.Work == nothing {
		return domain.Binding{AlreadyExists: true, Credentials: known.Credentials, Metadata: metadata}, nil
	}
	if err := b.checkPace(known, binding, asyncAllowed); err != nil {
		return domain.Binding{}, err
	}
	if !exists {
		known = b.make(bindingID, wanted)
	}
	if known.Work != nothing {
		return domain.Binding{IsAsync: true, OperationData: known.Work}, nil
	}
	return domain.Binding{Credentials: known.Credentials, Metadata: metadata}, nil
}

func (b *broker) Unbind(_ context.Context, _, bindingID string, _ domain.UnbindDetails, asyncAllowed bool) (domain.UnbindSpec, error) {
	known, exists := b.keys[bindingID]
	if !exists {
		return domain.UnbindSpec{}, apiresponses.ErrBindingDoesNotExist
	}
	if err := b.checkPace(known, unbinding, asyncAllowed); err != nil {
		return domain.UnbindSpec{}, err
	}
	if !b.inBackground {
		delete(b.keys, bindingID)
		return domain.UnbindSpec{}, nil
	}
	if known.Work == nothing {
		known.Work, known.lookedAt = unbinding, false
	}
	return domain.UnbindSpec{IsAsync: true, OperationData: known.Work}, nil
}

func (b *broker) GetBinding(_ context.Context, _, bindingID string, _ domain.FetchBindingDetails) (domain.GetBindingSpec, error) {
	known, exists := b.keys[bindingID]
	if !exists || known.Work == binding {
		return domain.GetBindingSpec{}, apiresponses.ErrBindingNotFound
	}
	return domain.GetBindingSpec{Credentials: known.Credentials, Metadata: metadata}, nil
}

func (b *broker) LastBindingOperation(_ context.Context, _, bindingID string, details domain.PollDetails) (domain.LastOperation, error) {
	known, exists := b.keys[bindingID]
	if !exists {
		return domain.LastOperation{}, apiresponses.ErrBindingDoesNotExist
	}
	if known.Work == nothing {
		return domain.LastOperation{State: domain.Succeeded}, nil
	}
	if details.OperationData != known.Work {
		words := fmt.Errorf("`%s` is not under way", details.OperationData)
		return domain.LastOperation{}, apiresponses.NewFailureResponse(words, http.StatusBadRequest, "bad-operation")
	}
	if b.held || !known.lookedAt {
		known.lookedAt = true
		return domain.LastOperation{State: domain.InProgress, Description: "one moment"}, nil
	}
	b.finish(bindingID)
	return domain.LastOperation{State: domain.Succeeded}, nil
}

// One operation at a time, and in the background if at all there.
func (b *broker) checkPace(known *key, work string, asyncAllowed bool) error {
	if b.inBackground && !asyncAllowed {
		return apiresponses.ErrAsyncRequired
	}
	for _, other := range b.keys {
		if other.Work != nothing && (other != known || other.Work != work) {
			return apiresponses.ErrConcurrentInstanceAccess
		}
	}
	return nil
}

func (b *broker) make(bindingID string, wanted request) *key {
	b.made++
	made := &key{request: wanted, Credentials: map[string]any{
		"hostname": "db.example.com",
		"port":     5432,
		"username": fmt.Sprintf("user-%d", b.made),
		"password": rand.Text(),
	}}
	if b.inBackground {
		made.Work = binding
	}
	b.keys[bindingID] = made
	return made
}

func (b *broker) finish(bindingID string) {
	if b.keys[bindingID].Work == unbinding {
		delete(b.keys, bindingID)
	} else {
		b.keys[bindingID].Work = nothing
	}
}

// Finishes all that is under way, and holds back nothing any more.
func (b *broker) release() {
	b.held = false
	for bindingID, known := range maps.Clone(b.keys) {
		if known.Work != nothing {
			b.finish(bindingID)
		}
	}
}

// Tells the test which bindings there are.
func (b *broker) tell(w http.ResponseWriter, _ *http.Request) {
	state := map[string]any{"bindings": b.keys, "made": b.made, "binds": b.binds}
	if err := json.NewEncoder(w).Encode(state); err != nil {
		slog.Error("the state can't be told", "error", err)
	}
}

// Requests change what others read, each on its own goroutine.
func oneAtATime(handler http.Handler) http.Handler {
	var turn sync.Mutex
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		turn.Lock()
		defer turn.Unlock()
		handler.ServeHTTP(w, r)
	})
}

func main() {
	var login brokerapi.BrokerCredentials
	b := &broker{keys: map[string]*key{}}
	flag.StringVar(&login.Username, "username", "", "who may log in")
	flag.StringVar(&login.Password, "password", "", "with what")
	flag.BoolVar(&b.inBackground, "in-background", false, "make and revoke keys in the background")
	flag.Parse()

	routes := http.NewServeMux()
	routes.Handle("/v2/", brokerapi.New(b, slog.New(slog.NewTextHandler(os.Stderr, nil)), login))
	routes.HandleFunc("GET /testing", b.tell)
	routes.HandleFunc("POST /testing/hold", func(http.ResponseWriter, *http.Request) { b.held = true })
	routes.HandleFunc("POST /testing/release", func(http.ResponseWriter, *http.Request) { b.release() })

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		fmt.Printf("listening on http://%s\n", listener.Addr())
		err = http.Serve(listener, oneAtATime(routes))
	}
	slog.Error("the broker ended", "error", err)
	os.Exit(1)
}
