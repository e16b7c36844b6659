// Command cloudfoundry-client does with service keys what the `cf` command does, by the unmodified Go client of Cloud
// Foundry, and prints what that client made of the answers.
//
// It is told on its standard input, in JSON, where to log in and what to look for: see order. It prints one JSON
// object: see report.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cloudfoundry/go-cfclient/v3/client"
	"github.com/cloudfoundry/go-cfclient/v3/config"
	"github.com/cloudfoundry/go-cfclient/v3/resource"
)

// order is what to do. Exactly one kind of login is filled in.
type order struct {
	API          string            `json:"api"`
	Username     string            `json:"username"`
	Password     string            `json:"password"`
	Origin       string            `json:"origin"`
	ClientID     string            `json:"client_id"`
	ClientSecret string            `json:"client_secret"`
	Assertion    string            `json:"assertion"`
	AccessToken  string            `json:"access_token"`
	RefreshToken string            `json:"refresh_token"`
	Organization string            `json:"organization"`
	Space        string            `json:"space"`
	Instance     string            `json:"instance"`
	Key          string            `json:"key"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	Parameters   json.RawMessage   `json:"parameters"`
	PerPage      int               `json:"per_page"`
}

// report is what the client saw, in the order of the calls.
type report struct {
	Root         *resource.Root                            `json:"root"`
	Organization *resource.Organization                    `json:"organization"`
	Space        *resource.Space                           `json:"space"`
	Instance     *resource.ServiceInstance                 `json:"instance"`
	Created      *resource.Job                             `json:"created"`
	Duplicate    *resource.CloudFoundryError               `json:"duplicate"`
	Selected     []*resource.ServiceCredentialBinding      `json:"selected"`
	Others       []string                                  `json:"others"`
	Details      *resource.ServiceCredentialBindingDetails `json:"details"`
	Parameters   *json.RawMessage                          `json:"parameters"`
	Updated      *resource.ServiceCredentialBinding        `json:"updated"`
	Included     *resource.ServiceInstance                 `json:"included"`
	Pages        [][]string                                `json:"pages"`
	Deleted      *resource.Job                             `json:"deleted"`
	Gone         *resource.CloudFoundryError               `json:"gone"`
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
	cf, err := login(told)
	if err != nil {
		return nil, fmt.Errorf("log in: %w", err)
	}
	seen := &report{}
	if err := find(ctx, cf, told, seen); err != nil {
		return nil, fmt.Errorf("find the instance: %w", err)
	}
	key, err := create(ctx, cf, told, seen)
	if err != nil {
		return nil, fmt.Errorf("create the key: %w", err)
	}
	if err := read(ctx, cf, told, key, seen); err != nil {
		return nil, fmt.Errorf("read the key: %w", err)
	}
	if err := turnPages(ctx, cf, told, seen); err != nil {
		return nil, fmt.Errorf("turn pages: %w", err)
	}
	if err := remove(ctx, cf, key, seen); err != nil {
		return nil, fmt.Errorf("delete the key: %w", err)
	}
	return seen, nil
}

func login(told order) (*client.Client, error) {
	options := []config.Option{config.RequestTimeout(20 * time.Second)}
	switch {
	case told.Username != "":
		options = append(options, config.UserPassword(told.Username, told.Password))
	case told.ClientID != "":
		options = append(options, config.ClientCredentials(told.ClientID, told.ClientSecret))
	case told.Assertion != "":
		options = append(options, config.JWTBearerAssertion(told.Assertion))
	default:
		options = append(options, config.Token(told.AccessToken, told.RefreshToken))
	}
	if told.Origin != "" {
		options = append(options, config.Origin(told.Origin))
	}
	settings, err := config.New(told.API, options...)
	if err != nil {
		return nil, err
	}
	return client.New(settings)
}

func find(ctx context.Context, cf *client.Client, told order, seen *report) (err error) {
	if seen.Root, err = cf.Root.Get(ctx); err != nil {
		return err
	}
	organizations := client.NewOrganizationListOptions()
	organizations.Names.EqualTo(told.Organization)
	if seen.Organization, err = cf.Organizations.Single(ctx, organizations); err != nil {
		return err
	}
	spaces := client.NewSpaceListOptions()
	spaces.Names.EqualTo(told.Space)
	spaces.OrganizationGUIDs.EqualTo(seen.Organization.GUID)
	if seen.Space, err = cf.Spaces.Single(ctx, spaces); err != nil {
		return err
	}
	instances := client.NewServiceInstanceListOptions()
	instances.Names.EqualTo(told.Instance)
	instances.SpaceGUIDs.EqualTo(seen.Space.GUID)
	seen.Instance, err = cf.ServiceInstances.Single(ctx, instances)
	return err
}

// create makes the key, waits for its job, tries the same again, and gives the key's GUID.
func create(ctx context.Context, cf *client.Client, told order, seen *report) (string, error) {
	wish := resource.NewServiceCredentialBindingCreateKey(seen.Instance.GUID, told.Key)
	wish.Parameters = &told.Parameters
	wish.Metadata = resource.NewMetadata()
	for name, value := range told.Labels {
		wish.Metadata.SetLabel("", name, value)
	}
	for name, value := range told.Annotations {
		wish.Metadata.SetAnnotation("", name, value)
	}
	job, _, err := cf.ServiceCredentialBindings.Create(ctx, wish)
	if err != nil {
		return "", err
	}
	if seen.Created, err = follow(ctx, cf, job); err != nil {
		return "", err
	}
	_, _, err = cf.ServiceCredentialBindings.Create(ctx, wish)
	if seen.Duplicate, err = refusal(err); err != nil {
		return "", err
	}
	keys := client.NewServiceCredentialBindingListOptions()
	keys.Names.EqualTo(told.Key)
	keys.ServiceInstanceGUIDs.EqualTo(seen.Instance.GUID)
	keys.Type.EqualTo("key")
	key, err := cf.ServiceCredentialBindings.Single(ctx, keys)
	if err != nil {
		return "", err
	}
	return key.GUID, nil
}

func read(ctx context.Context, cf *client.Client, told order, key string, seen *report) (err error) {
	ours := client.NewServiceCredentialBindingListOptions()
	ours.LabelSel = client.LabelSelector{}
	theirs := client.NewServiceCredentialBindingListOptions()
	theirs.LabelSel = client.LabelSelector{}
	for name, value := range told.Labels {
		ours.LabelSel.EqualTo(name, value, "or-another")
		theirs.LabelSel.NotExistence(name)
	}
	if seen.Selected, err = cf.ServiceCredentialBindings.ListAll(ctx, ours); err != nil {
		return err
	}
	others, err := cf.ServiceCredentialBindings.ListAll(ctx, theirs)
	if err != nil {
		return err
	}
	seen.Others = names(others)
	if seen.Details, err = cf.ServiceCredentialBindings.GetDetails(ctx, key); err != nil {
		return err
	}
	if seen.Parameters, err = cf.ServiceCredentialBindings.GetParameters(ctx, key); err != nil {
		return err
	}
	change := &resource.ServiceCredentialBindingUpdate{Metadata: resource.NewMetadata().WithLabel("", "seen", "yes")}
	if seen.Updated, err = cf.ServiceCredentialBindings.Update(ctx, key, change); err != nil {
		return err
	}
	_, seen.Included, err = cf.ServiceCredentialBindings.GetIncludeServiceInstance(ctx, key)
	return err
}

func turnPages(ctx context.Context, cf *client.Client, told order, seen *report) error {
	keys := client.NewServiceCredentialBindingListOptions()
	keys.PerPage = told.PerPage
	keys.OrderBy = "name"
	for {
		page, pager, err := cf.ServiceCredentialBindings.List(ctx, keys)
		if err != nil {
			return err
		}
		seen.Pages = append(seen.Pages, names(page))
		if !pager.HasNextPage() {
			return nil
		}
		pager.NextPage(keys)
	}
}

func remove(ctx context.Context, cf *client.Client, key string, seen *report) error {
	job, err := cf.ServiceCredentialBindings.Delete(ctx, key)
	if err != nil {
		return err
	}
	if seen.Deleted, err = follow(ctx, cf, job); err != nil {
		return err
	}
	_, err = cf.ServiceCredentialBindings.Get(ctx, key)
	seen.Gone, err = refusal(err)
	return err
}

// follow waits until a job is complete, and gives it.
func follow(ctx context.Context, cf *client.Client, job string) (*resource.Job, error) {
	polling := client.NewPollingOptions()
	polling.CheckInterval = 10 * time.Millisecond
	if err := cf.Jobs.PollComplete(ctx, job, polling); err != nil {
		return nil, err
	}
	return cf.Jobs.Get(ctx, job)
}

// refusal gives the error that the API answered with; anything else is an error here too.
func refusal(err error) (*resource.CloudFoundryError, error) {
	var refused resource.CloudFoundryError
	switch {
	case err == nil:
		return nil, errors.New("this should have been refused")
	case errors.As(err, &refused):
		return &refused, nil
	default:
		return nil, err
	}
}

func names(keys []*resource.ServiceCredentialBinding) []string {
	names := []string{}
	for _, key := range keys {
		names = append(names, *key.Name)
	}
	return names
}
