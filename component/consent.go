// SPDX-License-Identifier: Apache-2.0

package component

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/lockstep-im/lockstep/component/store"
	"github.com/lockstep-im/lockstep/stanza"
)

// This file decides who may claim a user's key packages, which is who may add
// the user to a group at all (xep/mls-key-packages.xml#consent), and keeps block lists
// (XEP-0191).

const (
	consentAnyone     = string(stanza.ConsentAnyone)
	consentSameDomain = string(stanza.ConsentSameDomain)
	consentAllowlist  = string(stanza.ConsentAllowlist)
)

// mayClaim reports whether requester may claim target's packages for a group.
// The reason of a refusal is told to nobody.
func (s *Service) mayClaim(rd store.Reader, target, requester addr, group string) (bool, error) {
	if target.bare == requester.bare {
		return true, nil
	}
	blocked, err := isBlocked(rd, target.bare, requester, group)
	if err != nil || blocked {
		return false, err
	}
	c, err := s.consent(rd, target.bare)
	if err != nil {
		return false, err
	}
	if slices.Contains(c.Allow, requester.bare) || slices.Contains(c.Allow, requester.domain) {
		return true, nil
	}
	switch c.Policy {
	case stanza.ConsentAnyone:
		return true, nil
	case stanza.ConsentSameDomain:
		return target.domain == requester.domain, nil
	}
	return false, nil
}

// consent gives a user's policy, or the service's.
func (s *Service) consent(rd store.Reader, user string) (*stanza.Consent, error) {
	raw, err := setting(rd, user, settingConsent)
	if err != nil {
		return nil, err
	}
	c := &stanza.Consent{Policy: stanza.ConsentPolicy(s.conf.Consent)}
	if raw != nil {
		if err := json.Unmarshal(raw, c); err != nil {
			return nil, fmt.Errorf("component: the stored consent of a user is malformed: %w", err)
		}
	}
	return c, nil
}

func getConsent(s *Service, r *request) (stanza.Payload, error) {
	var c *stanza.Consent
	err := s.store.View(r.ctx, func(rd store.Reader) (err error) {
		c, err = s.consent(rd, r.from.bare)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &stanza.ConsentConfig{Form: *c.Form(stanza.FormForm)}, nil
}

func setConsent(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.ConsentConfig](r.payload)
	if err != nil {
		return nil, err
	}
	return nil, s.store.Update(r.ctx, func(tx store.Tx) error {
		c, err := s.consent(tx, r.from.bare)
		if err != nil {
			return err
		}
		if err := c.Set(&in.Form); err != nil {
			return err
		}
		if c.Policy == stanza.ConsentRoster {
			return stanza.NewError(stanza.FeatureNotImplemented, "This service cannot read rosters. Use an allowlist: the client can fill it with the contacts.")
		}
		if c.Allow, err = normaliseList(c.Allow); err != nil {
			return err
		}
		raw, err := json.Marshal(c)
		if err != nil {
			return err
		}
		return tx.SetSetting(r.from.bare, settingConsent, raw)
	})
}

// normaliseList checks a list of bare JIDs and domains.
func normaliseList(list []string) ([]string, error) {
	if len(list) > blockMax {
		return nil, stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("The list has at most %d addresses.", blockMax))
	}
	out := make([]string, 0, len(list))
	for _, l := range list {
		a, err := parseAddr(strings.TrimSpace(l))
		if err != nil {
			return nil, stanza.NewError(stanza.JIDMalformed, fmt.Sprintf("%q is not an address.", bound(l, 64)))
		}
		out = append(out, a.key())
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// isBlocked reports whether a user has blocked a requester, or the group that
// the request is for (XEP-0191 §3.1: full JID, bare JID, domain).
func isBlocked(rd store.Reader, user string, requester addr, group string) (bool, error) {
	list, err := rd.Settings(user, settingBlock)
	if err != nil {
		return false, err
	}
	for _, b := range list {
		switch strings.TrimPrefix(b.Name, settingBlock) {
		case requester.key(), requester.bare, requester.domain, group, domainOf(group):
			return true, nil
		}
	}
	return false, nil
}

func blockList(s *Service, r *request) (stanza.Payload, error) {
	out := &stanza.BlockList{}
	err := s.store.View(r.ctx, func(rd store.Reader) error {
		list, err := rd.Settings(r.from.bare, settingBlock)
		for _, b := range list {
			out.JIDs = append(out.JIDs, strings.TrimPrefix(b.Name, settingBlock))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

func block(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Block](r.payload)
	if err != nil {
		return nil, err
	}
	list, err := normaliseList(in.JIDs)
	if err != nil {
		return nil, err
	}
	return nil, s.store.Update(r.ctx, func(tx store.Tx) error {
		have, err := tx.Settings(r.from.bare, settingBlock)
		if err != nil {
			return err
		}
		if len(have)+len(list) > blockMax {
			return stanza.NewError(stanza.NotAcceptable, fmt.Sprintf("The list has at most %d addresses.", blockMax))
		}
		for _, j := range list {
			if err := tx.SetSetting(r.from.bare, settingBlock+j, []byte{1}); err != nil {
				return err
			}
		}
		return nil
	})
}

func unblock(s *Service, r *request) (stanza.Payload, error) {
	in, err := stanza.Parse[stanza.Unblock](r.payload)
	if err != nil {
		return nil, err
	}
	list, err := normaliseList(in.JIDs)
	if err != nil {
		return nil, err
	}
	return nil, s.store.Update(r.ctx, func(tx store.Tx) error {
		if len(list) == 0 { // all of them
			have, err := tx.Settings(r.from.bare, settingBlock)
			if err != nil {
				return err
			}
			for _, b := range have {
				list = append(list, strings.TrimPrefix(b.Name, settingBlock))
			}
		}
		for _, j := range list {
			if err := tx.SetSetting(r.from.bare, settingBlock+j, nil); err != nil {
				return err
			}
		}
		return nil
	})
}
