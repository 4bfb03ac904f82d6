// SPDX-License-Identifier: Apache-2.0

package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-im/lockstep/component/store"
)

const suite = 1

// packages makes one-time packages with names of their own.
func packages(prefix string, n int) []store.KeyPackage {
	kps := make([]store.KeyPackage, n)
	for i := range kps {
		name := fmt.Sprint(prefix, i)
		kps[i] = store.KeyPackage{
			Ref: []byte("ref " + name), Suite: suite, Expires: noon.Add(time.Duration(i+1) * time.Hour),
			Caps: []byte("caps"), Bytes: []byte("package " + name),
		}
	}
	return kps
}

func last(name string) store.KeyPackage {
	return store.KeyPackage{
		Ref: []byte("ref " + name), Suite: suite, LastResort: true, Expires: noon.Add(1000 * time.Hour),
		Caps: []byte("caps"), Bytes: []byte("package " + name),
	}
}

func (w *world) publish(user, device string, kps ...store.KeyPackage) (d store.Device) {
	w.Helper()
	w.update(func(tx store.Tx) (err error) {
		d, err = tx.PutKeyPackages(user, device, kps, 100, noon)
		return err
	})
	return d
}

func claim(id, user string) *store.ClaimRequest {
	return &store.ClaimRequest{Requester: juliet, ID: id, User: user, Group: balcony, Suite: suite, Now: noon}
}

func (w *world) claim(q *store.ClaimRequest) (ds []store.ClaimedDevice) {
	w.Helper()
	w.update(func(tx store.Tx) (err error) {
		ds, err = tx.ClaimKeyPackages(q)
		return err
	})
	return ds
}

func (w *world) devices(user string, now time.Time) (ds []store.Device) {
	w.Helper()
	w.view(func(r store.Reader) (err error) {
		ds, err = r.Devices(user, now)
		return err
	})
	return ds
}

func testKeyPackages(t *testing.T, w *world) {
	kps := packages("r", 3)
	d := w.publish(romeo, "r1", append(kps, last("l"))...)
	want := store.Device{User: romeo, Device: "r1", Available: 3, LastResort: true, Expires: noon.Add(1000 * time.Hour), Seen: noon}
	w.same("published", d, want)
	w.same("again", w.publish(romeo, "r1", kps...), want)
	w.same("devices", w.devices(romeo, noon), []store.Device{want})
	// What has expired does not count.
	want.Available = 1
	w.same("later", w.devices(romeo, noon.Add(2*time.Hour)), []store.Device{want})
	want.Available, want.LastResort, want.Expires = 0, false, time.Time{}
	w.same("much later", w.devices(romeo, noon.Add(2000*time.Hour)), []store.Device{want})
	w.publish(mercutio, "m1", packages("m", 2)...)
	w.publish(mercutio, "m2", packages("n", 1)...)
	owners := make(map[string]int64)
	w.view(func(r store.Reader) error {
		return r.KeyPackageOwners(func(user string, n int64) { owners[user] += n })
	})
	w.same("owners", owners, map[string]int64{romeo: 4, mercutio: 3})
	// A last-resort package takes the place of the one before, of its suite.
	other := last("other suite")
	other.Suite = 2
	w.publish(romeo, "r1", last("l2"), other)
	ds := w.claim(&store.ClaimRequest{Requester: juliet, ID: "1", User: romeo, Group: balcony, Suite: suite, Now: noon.Add(10 * time.Hour)})
	if len(ds) != 1 || string(ds[0].Ref) != "ref l2" || !ds[0].LastResort {
		t.Fatalf("claimed %+v, want the second last resort", ds)
	}
	w.update(func(tx store.Tx) error { return tx.TouchDevice(romeo, "r1", noon.Add(time.Hour)) })
	w.update(func(tx store.Tx) error { return tx.TouchDevice(romeo, "r1", noon.Add(-time.Hour)) })
	w.update(func(tx store.Tx) error { return tx.TouchDevice(romeo, "r0", noon) })
	ds2 := w.devices(romeo, noon)
	if len(ds2) != 2 || ds2[0].Device != "r0" || !ds2[1].Seen.Equal(noon.Add(time.Hour)) {
		t.Fatalf("devices: %+v", ds2)
	}
	w.update(func(tx store.Tx) error {
		return tx.DeleteKeyPackage(romeo, "r1", [][]byte{[]byte("ref l2"), []byte("no such ref")})
	})
	ds = w.claim(&store.ClaimRequest{Requester: juliet, ID: "2", User: romeo, Group: balcony, Suite: suite, Now: noon.Add(10 * time.Hour)})
	if len(ds) != 2 || ds[1].Device != "r1" || ds[1].Status != store.ClaimIncompatible {
		t.Fatalf("claimed %+v, want none of this suite: the last resort was retracted", ds)
	}
	// Of a device that is not named nothing is taken.
	w.publish(romeo, "r1", packages("more", 1)...)
	one := claim("3", romeo)
	one.Devices = []string{"r0"}
	if ds = w.claim(one); len(ds) != 1 || ds[0].Device != "r0" {
		t.Fatalf("claimed %+v, want one device", ds)
	}
	if ds = w.claim(claim("4", romeo)); len(ds) != 2 || ds[1].Status != store.ClaimOK {
		t.Fatalf("claimed %+v, want the package that the claim before had no use for", ds)
	}
	w.update(func(tx store.Tx) error { return tx.DeleteKeyPackages(romeo, "r1") })
	if ds := w.devices(romeo, noon); len(ds) != 1 || ds[0].Device != "r0" {
		t.Fatalf("devices after retraction: %+v", ds)
	}
}

func testKeyPackageQuota(t *testing.T, w *world) {
	put := func(n int, prefix string) error {
		return w.s.Update(w.ctx(), func(tx store.Tx) error {
			_, err := tx.PutKeyPackages(romeo, "r1", append(packages(prefix, n), last("l")), 5, noon)
			return err
		})
	}
	if err := put(5, "a"); err != nil {
		t.Fatal(err)
	}
	if err := put(1, "b"); !errors.Is(err, store.ErrQuota) {
		t.Fatalf("the sixth: %v", err)
	}
	if err := put(5, "a"); err != nil {
		t.Fatalf("the same five: %v", err)
	}
	if ds := w.devices(romeo, noon); ds[0].Available != 5 {
		t.Fatalf("available: %+v", ds)
	}
}

func testClaim(t *testing.T, w *world) {
	w.publish(romeo, "r1", packages("a", 2)...)
	w.publish(romeo, "r2", packages("b", 1)...)
	w.publish(romeo, "r3", last("l"))
	w.update(func(tx store.Tx) error { return tx.TouchDevice(romeo, "r4", noon) })

	got := func(device, name string, left int, lastResort bool) store.ClaimedDevice {
		return store.ClaimedDevice{
			Device: device, Status: store.ClaimOK, Ref: []byte("ref " + name), Bytes: []byte("package " + name), LastResort: lastResort, Left: left,
		}
	}
	none := func(device string) store.ClaimedDevice {
		return store.ClaimedDevice{Device: device, Status: store.ClaimExhausted}
	}
	w.same("first", w.claim(claim("1", romeo)), []store.ClaimedDevice{
		got("r1", "a0", 1, false), got("r2", "b0", 0, false), got("r3", "l", 0, true), none("r4"),
	})
	w.same("second", w.claim(claim("2", romeo)), []store.ClaimedDevice{
		got("r1", "a1", 0, false), none("r2"), got("r3", "l", 0, true), none("r4"),
	})
	w.same("nobody", w.claim(claim("3", mallory)), []store.ClaimedDevice(nil))
	w.view(func(r store.Reader) error {
		c, err := r.Claimed([]byte("ref a0"), balcony)
		w.same("claim", c, store.Claim{
			Ref: []byte("ref a0"), User: romeo, Device: "r1", Group: balcony, Requester: juliet, At: noon, Expires: noon.Add(time.Hour),
		})
		return err
	})
	// For another group, or unclaimed, it authorises nothing.
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Claimed([]byte("ref a0"), orchard); return err })
	w.fails(store.ErrNotFound, func(tx store.Tx) error { _, err := tx.Claimed([]byte("ref zz"), balcony); return err })
	// A last resort may serve several groups.
	q := claim("4", romeo)
	q.Group = orchard
	w.claim(q)
	w.view(func(r store.Reader) error {
		_, err := r.Claimed([]byte("ref l"), balcony)
		if err == nil {
			_, err = r.Claimed([]byte("ref l"), orchard)
		}
		return err
	})
}

func testClaimIdempotent(t *testing.T, w *world) {
	w.publish(romeo, "r1", packages("a", 3)...)
	w.update(func(tx store.Tx) error { return tx.TouchDevice(romeo, "r2", noon) })
	first := w.claim(claim("1", romeo))
	again := w.claim(claim("1", romeo))
	for i := range first {
		first[i].Repeated, first[i].Left = true, 0
	}
	w.same("again", again, first)
	if ds := w.devices(romeo, noon); ds[0].Available != 2 {
		t.Fatalf("available: %+v", ds)
	}
	// The id is the requester's own: mallory learns nothing with it.
	q := claim("1", romeo)
	q.Requester = mallory
	if ds := w.claim(q); ds[0].Repeated || bytes.Equal(ds[0].Ref, first[0].Ref) {
		t.Fatalf("mallory got %+v", ds)
	}
	// After ClaimMemory it is a new claim.
	if _, err := w.s.Clean(w.ctx(), store.CleanPolicy{Now: noon.Add(store.ClaimMemory + time.Second)}); err != nil {
		t.Fatal(err)
	}
	if ds := w.claim(claim("1", romeo)); ds[0].Repeated {
		t.Fatalf("much later: %+v", ds)
	}
}

func testClaimNeverTwice(t *testing.T, w *world) {
	kps := packages("a", 2)
	w.publish(romeo, "r1", kps...)
	first := w.claim(claim("1", romeo))
	// Publishing it again does not bring it back.
	if d := w.publish(romeo, "r1", kps...); d.Available != 1 {
		t.Fatalf("after publishing again: %+v", d)
	}
	second := w.claim(claim("2", romeo))
	if second[0].Status != store.ClaimOK || bytes.Equal(first[0].Ref, second[0].Ref) {
		t.Fatalf("first %+v, second %+v", first, second)
	}
	if third := w.claim(claim("3", romeo)); third[0].Status != store.ClaimExhausted {
		t.Fatalf("third %+v", third)
	}
	// What has expired is not given.
	w.publish(romeo, "r1", packages("b", 1)...)
	q := claim("4", romeo)
	q.Now = noon.Add(time.Hour)
	if late := w.claim(q); late[0].Status != store.ClaimExhausted {
		t.Fatalf("late %+v", late)
	}
}

func testClaimMatch(t *testing.T, w *world) {
	kps := packages("a", 3)
	kps[2].Caps = []byte("more")
	w.publish(romeo, "r1", kps...)
	other := packages("b", 1)
	other[0].Suite = 2
	w.publish(romeo, "r2", other...)
	q := claim("1", romeo)
	q.Match = func(caps []byte) bool { return string(caps) == "more" }
	ds := w.claim(q)
	if ds[0].Status != store.ClaimOK || string(ds[0].Ref) != "ref a2" || ds[0].Left != 2 {
		t.Fatalf("r1: %+v, want the third package", ds[0])
	}
	if ds[1].Status != store.ClaimIncompatible {
		t.Fatalf("r2: %+v", ds[1])
	}
	q.ID = "2"
	if ds = w.claim(q); ds[0].Status != store.ClaimIncompatible {
		t.Fatalf("r1: %+v", ds[0])
	}
}

func testRaceClaims(t *testing.T, w *world) { RaceClaims(t, w.s) }

// RaceClaims lets many claim a device's key packages at once, through one store
// or several on one database, each claim twice.
func RaceClaims(t *testing.T, stores ...store.Store) {
	const claims, stock = 40, 30
	w := &world{t, stores[0]}
	w.publish(romeo, "r1", packages("a", stock)...)
	var mu sync.Mutex
	given := make(map[string]int)
	var wg sync.WaitGroup
	for i := range claims {
		wg.Go(func() {
			var ds []store.ClaimedDevice
			// Two of each id: one of them waits for the other.
			err := stores[i%len(stores)].Update(w.ctx(), func(tx store.Tx) (err error) {
				ds, err = tx.ClaimKeyPackages(claim(fmt.Sprint(i/2), romeo))
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil || len(ds) != 1 {
				t.Errorf("claim %d: %+v, %v", i, ds, err)
			} else if ds[0].Status == store.ClaimOK {
				given[string(ds[0].Ref)]++
			}
		})
	}
	wg.Wait()
	if len(given) != claims/2 {
		t.Errorf("%d packages for %d claims", len(given), claims/2)
	}
	for ref, n := range given {
		if n != 2 {
			t.Errorf("%q was given %d times", ref, n)
		}
	}
	if ds := w.devices(romeo, noon); ds[0].Available != stock-claims/2 {
		t.Errorf("left: %+v", ds)
	}
}
