package main

import (
	"context"
	"errors"

	"github.com/IBM/go-sdk-core/v5/core"
	controller "github.com/IBM/platform-services-go-sdk/resourcecontrollerv2"
)

// find turns the pages of all instances, and looks for the one of the order.
func (s *session) find(ctx context.Context) error {
	all := &controller.ListResourceInstancesOptions{Limit: &s.told.PageSize}
	pager, err := s.controller.NewResourceInstancesPager(all)
	if err != nil {
		return err
	}
	for pager.HasNext() {
		page, err := pager.GetNextWithContext(ctx)
		if err != nil {
			return err
		}
		names := []string{}
		for _, instance := range page {
			names = append(names, *instance.Name)
		}
		s.seen.Instances = append(s.seen.Instances, names)
	}
	options := &controller.ListResourceInstancesOptions{
		Name: &s.told.Instance, Type: core.StringPtr("service_instance")}
	found, _, err := s.controller.ListResourceInstancesWithContext(ctx, options)
	if err != nil {
		return err
	}
	s.compare("instances", found)
	if len(found.Resources) != 1 {
		return errors.New("there is not one instance of this name")
	}
	byCRN := s.controller.NewGetResourceInstanceOptions(*found.Resources[0].CRN)
	s.seen.Instance, _, err = s.controller.GetResourceInstanceWithContext(ctx, byCRN)
	s.compare("instance", s.seen.Instance)
	return err
}

// createKey makes the key, bound to the service ID.
func (s *session) createKey(ctx context.Context) (err error) {
	parameters := &controller.ResourceKeyPostParameters{ServiceidCRN: s.seen.ServiceID.CRN}
	parameters.SetProperty("HMAC", true)
	options := s.controller.NewCreateResourceKeyOptions(s.told.Key, *s.seen.Instance.GUID).
		SetRole(*s.seen.Role.CRN).
		SetParameters(parameters)
	s.seen.Created, _, err = s.controller.CreateResourceKeyWithContext(ctx, options)
	s.compare("key", s.seen.Created)
	return err
}

func (s *session) readKey(ctx context.Context) (err error) {
	byGUID := s.controller.NewGetResourceKeyOptions(*s.seen.Created.GUID)
	if s.seen.ByGUID, _, err = s.controller.GetResourceKeyWithContext(ctx, byGUID); err != nil {
		return err
	}
	byCRN := s.controller.NewGetResourceKeyOptions(*s.seen.Created.CRN)
	if s.seen.ByCRN, _, err = s.controller.GetResourceKeyWithContext(ctx, byCRN); err != nil {
		return err
	}
	rename := s.controller.NewUpdateResourceKeyOptions(*s.seen.Created.GUID, s.told.Key+"-renamed")
	if s.seen.Renamed, _, err = s.controller.UpdateResourceKeyWithContext(ctx, rename); err != nil {
		return err
	}
	byName := &controller.ListResourceKeysOptions{Name: s.seen.Renamed.Name}
	found, _, err := s.controller.ListResourceKeysWithContext(ctx, byName)
	if err != nil {
		return err
	}
	s.compare("keys", found)
	s.seen.ByName = names(found.Resources)
	return nil
}

func (s *session) turnPages(ctx context.Context) error {
	ofInstance := s.controller.NewListResourceKeysForInstanceOptions(*s.seen.Instance.GUID).
		SetLimit(s.told.PageSize)
	pager, err := s.controller.NewResourceKeysForInstancePager(ofInstance)
	if err != nil {
		return err
	}
	for pager.HasNext() {
		page, err := pager.GetNextWithContext(ctx)
		if err != nil {
			return err
		}
		s.seen.Pages = append(s.seen.Pages, names(page))
	}
	return nil
}

// deleteKey deletes the key, looks at it, and deletes it again.
func (s *session) deleteKey(ctx context.Context) (err error) {
	key := *s.seen.Created.CRN
	options := s.controller.NewDeleteResourceKeyOptions(key)
	if _, err = s.controller.DeleteResourceKeyWithContext(ctx, options); err != nil {
		return err
	}
	look := s.controller.NewGetResourceKeyOptions(key)
	if s.seen.Removed, _, err = s.controller.GetResourceKeyWithContext(ctx, look); err != nil {
		return err
	}
	s.compare("removed key", s.seen.Removed)
	s.seen.DeletedAgain, err = refusal(s.controller.DeleteResourceKeyWithContext(ctx, options))
	return err
}

func names(keys []controller.ResourceKey) []string {
	names := []string{}
	for _, key := range keys {
		names = append(names, *key.Name)
	}
	return names
}
