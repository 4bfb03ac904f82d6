// SPDX-License-Identifier: Apache-2.0

package store

import "time"

// ClaimMemory is how long a claim's answer is remembered, for a requester that
// asks again because the answer was lost.
const ClaimMemory = 10 * time.Minute

// A KeyPackage is one key package of a device.
type KeyPackage struct {
	Ref        []byte // KeyPackageRef, up to 64 bytes
	Suite      uint16
	LastResort bool
	Expires    time.Time
	Caps       []byte // whatever ClaimRequest.Match needs, opaque
	Bytes      []byte
}

// A Device is a device as its user sees it.
type Device struct {
	User       string
	Device     string
	Available  int       // one-time packages
	LastResort bool      // there is a last-resort package
	Expires    time.Time // when the last package expires, zero if there is none
	Seen       time.Time
}

// A ClaimRequest asks for one key package of each of a user's devices.
type ClaimRequest struct {
	Requester string   // bare JID
	ID        string   // chosen by the requester
	User      string   // whose devices
	Devices   []string // which of them; empty: all
	Group     string   // JID of the group that the packages are for
	Suite     uint16
	Match     func(caps []byte) bool // nil: any package will do
	Now       time.Time
}

// ClaimStatus is the answer for one device.
type ClaimStatus uint8

const (
	ClaimOK           ClaimStatus = 1 // the package is in the answer
	ClaimExhausted    ClaimStatus = 2 // no package is left
	ClaimIncompatible ClaimStatus = 3 // there are packages, but of other suites or capabilities
)

// A ClaimedDevice is the answer for one device.
type ClaimedDevice struct {
	Device     string
	Status     ClaimStatus
	Ref        []byte
	Bytes      []byte
	LastResort bool // the package given was the last-resort one
	Left       int  // one-time packages of this suite that are left; 0 in a repeated answer
	Repeated   bool // the answer is that of an earlier call
}

// A Claim is the memory that a key package was given out for a group.
type Claim struct {
	Ref       []byte
	User      string
	Device    string
	Group     string
	Requester string
	At        time.Time
	Expires   time.Time
}

// A NewWelcome is one joiner's part of a commit's Welcome.
type NewWelcome struct {
	KPRef    []byte
	User     string
	Device   string
	Inviter  string // bare JID
	Secrets  []byte // this joiner's EncryptedGroupSecrets and no other's
	NotifyAt time.Time
}

// A Welcome waits for a device, or tells its home service where it waits.
type Welcome struct {
	KPRef    []byte
	Group    string // JID
	User     string
	Device   string
	Epoch    uint64
	Seq      uint64
	Inviter  string
	Remote   bool      // the group lives at another service
	Secrets  []byte    // nil in lists; if Remote, the whole Welcome or nil: then it is at the group's service
	Info     []byte    // EncryptedGroupInfo; nil in lists, and if Remote
	Expires  time.Time // Clean removes it then
	NotifyAt time.Time // when to tell the joiner's home service, zero if nobody needs to be told
}

// A Session is a full JID that gets live deliveries for a device.
type Session struct {
	JID    string // full JID
	User   string // its bare JID
	Device string
	Since  time.Time
}

// An UploadChunk is a piece of a staged upload.
type UploadChunk struct {
	Owner   string // who may use it: compared as it is
	ID      string // chosen by the owner
	Part    string // what it is for
	Offset  int64
	Total   int64 // of the whole upload, in bytes
	Sum     Ref   // SHA-256 of the whole upload
	Bytes   []byte
	Now     time.Time
	Expires time.Time // of the whole upload; each piece renews it
}

// UploadProgress says how far a staged upload has come.
type UploadProgress struct {
	Part    string
	Have    int64 // bytes from the beginning that are there
	Total   int64
	Expires time.Time
}

// A Setting is a named value of a user, a domain, or (Owner "") the service:
// consent policies, block lists, quotas, banned domains, signing keys. Its
// meaning is the caller's.
type Setting struct {
	Name  string
	Value []byte
}

// A Report is a report of abuse.
type Report struct {
	ID       int64 // set by AddReport
	Stamp    time.Time
	Reporter string
	Group    string // JID, "" if none
	Seq      uint64 // entry that it is about, 0 if none
	Reason   string
	Text     string
	Evidence []byte
}
