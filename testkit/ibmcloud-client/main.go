// Command ibmcloud-client does with resource keys what the `ibmcloud` command does, by the unmodified Go client of IBM
// Cloud, and prints what that client made of the answers.
//
// It is told on its standard input, in JSON, where to log in and what to look for: see order. It prints one JSON
// object: see report.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	"github.com/IBM/go-sdk-core/v5/core"
	identity "github.com/IBM/platform-services-go-sdk/iamidentityv1"
	access "github.com/IBM/platform-services-go-sdk/iampolicymanagementv1"
	controller "github.com/IBM/platform-services-go-sdk/resourcecontrollerv2"
)

// order is what to do. Exactly one kind of login is filled in.
type order struct {
	IAM         string `json:"iam"`
	Controller  string `json:"controller"`
	APIKey      string `json:"apikey"`
	CRTokenFile string `json:"cr_token_file"`
	ProfileName string `json:"profile_name"`
	ProfileID   string `json:"profile_id"`
	Account     string `json:"account"`
	Instance    string `json:"instance"`
	Service     string `json:"service"`
	Role        string `json:"role"`
	Key         string `json:"key"`
	PageSize    int64  `json:"page_size"`
}

// report is what the client saw, in the order of the calls.
type report struct {
	Instances       [][]string                   `json:"instances"`
	Instance        *controller.ResourceInstance `json:"instance"`
	Role            *access.Role                 `json:"role"`
	ServiceID       *identity.ServiceID          `json:"service_id"`
	ServiceIDs      []string                     `json:"service_ids"`
	Policy          *access.Policy               `json:"policy"`
	Policies        []string                     `json:"policies"`
	DuplicatePolicy *refused                     `json:"duplicate_policy"`
	Created         *controller.ResourceKey      `json:"created"`
	ByGUID          *controller.ResourceKey      `json:"by_guid"`
	ByCRN           *controller.ResourceKey      `json:"by_crn"`
	Renamed         *controller.ResourceKey      `json:"renamed"`
	ByName          []string                     `json:"by_name"`
	Pages           [][]string                   `json:"pages"`
	Removed         *controller.ResourceKey      `json:"removed"`
	DeletedAgain    *refused                     `json:"deleted_again"`
	PolicyGone      *refused                     `json:"policy_gone"`
	ServiceIDGone   *refused                     `json:"service_id_gone"`
	// What the client's types do not know, or miss.
	Differences []string `json:"differences"`
}

// refused is how the client understands an error.
type refused struct {
	Status  int    `json:"status"`
	Message string `json:"message"`
	Body    any    `json:"body"`
}

// session is the client, and what it has seen so far.
type session struct {
	told       order
	wire       *witness
	identity   *identity.IamIdentityV1
	access     *access.IamPolicyManagementV1
	controller *controller.ResourceControllerV2
	seen       *report
}

func main() {
	var told order
	if err := json.NewDecoder(os.Stdin).Decode(&told); err != nil {
		fail(fmt.Errorf("the order is unreadable: %w", err))
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	seen, err := run(ctx, told)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(seen); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func run(ctx context.Context, told order) (*report, error) {
	s, err := logIn(told)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	steps := []struct {
		what string
		do   func(context.Context) error
	}{
		{"find the instance", s.find},
		{"find the role", s.findRole},
		{"make the service ID", s.createServiceID},
		{"make the policy", s.createPolicy},
		{"make the key", s.createKey},
		{"read the key", s.readKey},
		{"turn pages", s.turnPages},
		{"delete the key", s.deleteKey},
		{"delete the service ID", s.deleteServiceID},
	}
	for _, step := range steps {
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return s.seen, nil
}

func logIn(told order) (*session, error) {
	s := &session{told: told, wire: &witness{}, seen: &report{Differences: []string{}}}
	authenticator, err := s.authenticator()
	if err != nil {
		return nil, err
	}
	s.identity, err = identity.NewIamIdentityV1(
		&identity.IamIdentityV1Options{URL: told.IAM, Authenticator: authenticator})
	if err != nil {
		return nil, err
	}
	s.access, err = access.NewIamPolicyManagementV1(
		&access.IamPolicyManagementV1Options{URL: told.IAM, Authenticator: authenticator})
	if err != nil {
		return nil, err
	}
	s.controller, err = controller.NewResourceControllerV2(
		&controller.ResourceControllerV2Options{URL: told.Controller, Authenticator: authenticator})
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: s.wire, Timeout: 20 * time.Second}
	for _, service := range []*core.BaseService{s.identity.Service, s.access.Service, s.controller.Service} {
		service.SetHTTPClient(client)
	}
	return s, nil
}

// authenticator logs in as told; tokens come over connections of their own.
func (s *session) authenticator() (core.Authenticator, error) {
	if s.told.APIKey != "" {
		return core.NewIamAuthenticatorBuilder().SetApiKey(s.told.APIKey).SetURL(s.told.IAM).Build()
	}
	return core.NewContainerAuthenticatorBuilder().
		SetCRTokenFilename(s.told.CRTokenFile).
		SetIAMProfileName(s.told.ProfileName).
		SetIAMProfileID(s.told.ProfileID).
		SetURL(s.told.IAM).
		Build()
}

// compare notes how the last answer differs from the type that the client made of it.
func (s *session) compare(what string, result any) {
	found := differences(what, s.wire.body, reflect.TypeOf(result))
	s.seen.Differences = append(s.seen.Differences, found...)
}

// refusal gives the error that was answered; no error, or one of another kind, is an error here.
func refusal(response *core.DetailedResponse, err error) (*refused, error) {
	switch {
	case err == nil:
		return nil, errors.New("this should have been refused")
	case response == nil:
		return nil, err
	default:
		return &refused{Status: response.StatusCode, Message: err.Error(), Body: response.Result}, nil
	}
}
