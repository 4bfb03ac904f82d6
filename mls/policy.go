// SPDX-License-Identifier: Apache-2.0

// What the application decides: who is who, what is allowed, what its data become.

package mls

import (
	"bytes"
	"errors"
)

// CredentialUse says what a credential is presented for.
type CredentialUse uint8

// The uses of a credential.
const (
	// UseMember: the owner of the leaf is, or is about to become, a member.
	UseMember CredentialUse = iota + 1
	// UseExternalSender: the owner may send proposals from outside.
	UseExternalSender
)

// An Authenticator is the client's link to the authentication service
// (RFC 9420 §5.3.1): it alone knows whether a credential is true. Its methods may
// be called from several goroutines at once, and must not call back into the
// group.
type Authenticator interface {
	// ValidateCredential returns an error unless the credential is valid and its
	// owner has the signature key.
	ValidateCredential(c Credential, signatureKey []byte, use CredentialUse) error
	// ValidateSuccessor returns an error unless the new leaf may take the place of
	// the old one: in an Update, a commit's path, or an external commit that
	// replaces its sender's former self (RFC 9420 §12.2).
	ValidateSuccessor(old, new *LeafNode) error
}

// ErrIdentityChanged is the error of the default [Authenticator] for a successor
// whose credential is not identical.
var ErrIdentityChanged = errors.New("mls: the credential differs from the one that it replaces")

// acceptCredentials is the default Authenticator.
type acceptCredentials struct{}

func (acceptCredentials) ValidateCredential(Credential, []byte, CredentialUse) error { return nil }

func (acceptCredentials) ValidateSuccessor(old, new *LeafNode) error {
	if !old.Credential.Equal(new.Credential) {
		return ErrIdentityChanged
	}
	return nil
}

// A Policy is the application's own rule on top of RFC 9420 (§12.2): it sees a
// change whole before it is staged, when receiving and when sending, in a [Group]
// and in a [PublicGroup] alike.
type Policy interface {
	// CheckChange returns an error to refuse the change. It must not keep or
	// change what it is shown.
	CheckChange(*Change) error
}

// PolicyFunc makes a [Policy] of a function.
type PolicyFunc func(*Change) error

// CheckChange implements [Policy].
func (f PolicyFunc) CheckChange(c *Change) error { return f(c) }

// An AppDataUpdater is the application logic of components
// (draft-ietf-mls-extensions, Updating Application Data in the GroupContext).
type AppDataUpdater interface {
	// UpdateAppData returns the new data of a component. old is nil when it had
	// none; updates are in the order of the commit. An error makes the commit
	// invalid. All members and the delivery service must come to the same result.
	UpdateAppData(id ComponentID, old []byte, updates [][]byte) ([]byte, error)
	// CheckEphemeral returns an error unless the component is known and the data
	// of an AppEphemeral proposal is valid.
	CheckEphemeral(id ComponentID, data []byte) error
}

// lastUpdate is the default AppDataUpdater.
type lastUpdate struct{}

func (lastUpdate) UpdateAppData(_ ComponentID, _ []byte, updates [][]byte) ([]byte, error) {
	return bytes.Clone(updates[len(updates)-1]), nil
}

func (lastUpdate) CheckEphemeral(ComponentID, []byte) error { return nil }
