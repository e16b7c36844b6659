package main

import (
	"context"
	"errors"

	"github.com/IBM/go-sdk-core/v5/core"
	access "github.com/IBM/platform-services-go-sdk/iampolicymanagementv1"
)

// findRole finds the service's role of the name that the order gives.
func (s *session) findRole(ctx context.Context) error {
	options := s.access.NewListRolesOptions().SetAccountID(s.told.Account).SetServiceName(s.told.Service)
	roles, _, err := s.access.ListRolesWithContext(ctx, options)
	if err != nil {
		return err
	}
	s.compare("roles", roles)
	for _, role := range roles.ServiceRoles {
		if *role.DisplayName == s.told.Role {
			s.seen.Role = &role
			return nil
		}
	}
	return errors.New("the service has no such role")
}

// createServiceID makes the service ID of the key, and turns the pages of all.
func (s *session) createServiceID(ctx context.Context) (err error) {
	options := s.identity.NewCreateServiceIDOptions(s.told.Account, s.told.Key).SetDescription("for one key")
	if s.seen.ServiceID, _, err = s.identity.CreateServiceIDWithContext(ctx, options); err != nil {
		return err
	}
	s.compare("service ID", s.seen.ServiceID)
	get := s.identity.NewGetServiceIDOptions(*s.seen.ServiceID.ID)
	if _, _, err = s.identity.GetServiceIDWithContext(ctx, get); err != nil {
		return err
	}
	list := s.identity.NewListServiceIdsOptions().SetAccountID(s.told.Account).SetPagesize(s.told.PageSize)
	for {
		page, _, err := s.identity.ListServiceIdsWithContext(ctx, list)
		if err != nil {
			return err
		}
		s.compare("service IDs", page)
		for _, found := range page.Serviceids {
			s.seen.ServiceIDs = append(s.seen.ServiceIDs, *found.Name)
		}
		if page.Next == nil {
			return nil
		}
		token, err := core.GetQueryParam(page.Next, "pagetoken")
		if err != nil {
			return err
		}
		list = s.identity.NewListServiceIdsOptions().SetPagetoken(*token)
	}
}

// createPolicy gives the service ID the role at the instance, twice.
func (s *session) createPolicy(ctx context.Context) (err error) {
	attribute := func(name, value string) access.ResourceAttribute {
		return access.ResourceAttribute{Name: &name, Value: &value, Operator: core.StringPtr("stringEquals")}
	}
	subject := access.SubjectAttribute{Name: core.StringPtr("iam_id"), Value: s.seen.ServiceID.IamID}
	options := s.access.NewCreatePolicyOptions(
		"access",
		[]access.PolicySubject{{Attributes: []access.SubjectAttribute{subject}}},
		[]access.PolicyRole{{RoleID: s.seen.Role.CRN}},
		[]access.PolicyResource{{Attributes: []access.ResourceAttribute{
			attribute("accountId", s.told.Account),
			attribute("serviceName", s.told.Service),
			attribute("serviceInstance", *s.seen.Instance.GUID),
		}}},
	)
	if s.seen.Policy, _, err = s.access.CreatePolicyWithContext(ctx, options); err != nil {
		return err
	}
	s.compare("policy", s.seen.Policy)
	_, response, err := s.access.CreatePolicyWithContext(ctx, options)
	if s.seen.DuplicatePolicy, err = refusal(response, err); err != nil {
		return err
	}
	s.compare("policy error", &access.ErrorResponse{})
	get := s.access.NewGetPolicyOptions(*s.seen.Policy.ID)
	if _, _, err = s.access.GetPolicyWithContext(ctx, get); err != nil {
		return err
	}
	list := s.access.NewListPoliciesOptions(s.told.Account).SetIamID(*s.seen.ServiceID.IamID)
	found, _, err := s.access.ListPoliciesWithContext(ctx, list)
	if err != nil {
		return err
	}
	s.compare("policies", found)
	for _, policy := range found.Policies {
		s.seen.Policies = append(s.seen.Policies, *policy.ID)
	}
	return nil
}

// deleteServiceID deletes the policy and the service ID, each of them twice.
func (s *session) deleteServiceID(ctx context.Context) (err error) {
	policy := s.access.NewDeletePolicyOptions(*s.seen.Policy.ID)
	if _, err = s.access.DeletePolicyWithContext(ctx, policy); err != nil {
		return err
	}
	s.seen.PolicyGone, err = refusal(s.access.DeletePolicyWithContext(ctx, policy))
	if err != nil {
		return err
	}
	serviceID := s.identity.NewDeleteServiceIDOptions(*s.seen.ServiceID.ID)
	if _, err = s.identity.DeleteServiceIDWithContext(ctx, serviceID); err != nil {
		return err
	}
	s.seen.ServiceIDGone, err = refusal(s.identity.DeleteServiceIDWithContext(ctx, serviceID))
	return err
}
