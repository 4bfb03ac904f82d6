// SPDX-License-Identifier: Apache-2.0

package mls

import "math/bits"

// A pmap is a persistent map from hashes to numbers: an edit makes a new map and
// leaves the one that it came from as it was, for whoever still reads it. A key
// gets new values, it is not removed.
//
// A map is a stack of tables, of which the newest that has a key counts. An edit
// puts a table on top, and at its end [pmap.settle] merges it with the tables
// below that are not much larger than all that lies above them:
//
//	newest           14
//	            14   14
//	            42   42    70
//	oldest     900  900   900
//	        before  edit  settled
//
// So each table is more than twice as large as the one above it, and there are
// few; and an entry is copied again only when what lies above it has grown to
// half of its table, so that a change costs a logarithmic number of copies, on
// average. Nothing is ever written to a table that two maps share.
type pmap struct {
	tables []*pmapTable // the oldest and largest first
	order  uint32       // of the last entry that was set
}

// A pmapTable is a hash table with linear probing, of which less than half is
// full. Slots are in the order of the hashes, but for collisions, so that to copy
// a table is to walk through both tables from front to back.
type pmapTable struct {
	slots []pmapEntry
	n     int
}

type pmapEntry struct {
	key   uint64 // 0: the slot is empty
	value uint32
	order uint32 // greater than that of all entries that were set before
}

// pmapRenumber is the order above which an edit ends with new ones, long before
// there are none left.
const pmapRenumber = 1 << 31

func newPmapTable(room int) *pmapTable {
	return &pmapTable{slots: make([]pmapEntry, 2*room+1)}
}

// slot returns the slot of a key, or the empty one that it would take.
func (t *pmapTable) slot(key uint64) *pmapEntry {
	first, _ := bits.Mul64(key, uint64(len(t.slots)))
	for i := int(first); ; {
		if e := &t.slots[i]; e.key == key || e.key == 0 {
			return e
		}
		if i++; i == len(t.slots) {
			i = 0
		}
	}
}

// fill adds the entries of an older table, for which there must be room, unless
// t has their keys or they are not among the latest.
func (t *pmapTable) fill(older *pmapTable, latest pmapLatest) {
	for i := range older.slots {
		e := &older.slots[i]
		if e.key == 0 || !latest.has(e) {
			continue
		}
		if s := t.slot(e.key); s.key == 0 {
			*s = *e
			if latest != nil {
				s.order = 1
			}
			t.n++
		}
	}
}

// get returns the value of a key, which must not be 0.
func (m *pmap) get(key uint64) (uint32, bool) {
	for i := len(m.tables) - 1; i >= 0; i-- {
		if e := m.tables[i].slot(key); e.key != 0 {
			return e.value, true
		}
	}
	return 0, false
}

// edit begins an edit of a map that is no other's, with room for n keys.
func (m *pmap) edit(n int) {
	m.tables = append(m.tables[:len(m.tables):len(m.tables)], newPmapTable(n))
}

// set gives a key, which must not be 0, a value. The map must be under edit.
func (m *pmap) set(key uint64, value uint32) {
	t := m.tables[len(m.tables)-1]
	e := t.slot(key)
	if e.key == 0 {
		if 2*(t.n+1) > len(t.slots) {
			larger := newPmapTable(2*t.n + 1)
			larger.fill(t, nil)
			*t = *larger
			e = t.slot(key)
		}
		t.n++
	}
	m.order++
	*e = pmapEntry{key, value, m.order}
}

// settle ends an edit. Where a value has one key at a time, places says that
// values are below it: entries that a later one with the same value made obsolete,
// and those of greater values, are dropped when they have become many. Otherwise
// it is 0.
func (m *pmap) settle(places int) {
	first := len(m.tables) - 1
	n := m.tables[first].n
	renumber := m.order > pmapRenumber
	for first > 0 && (m.tables[first-1].n <= 2*n || renumber) {
		first--
		n += m.tables[first].n
	}
	merge := m.tables[first:]
	var latest pmapLatest
	// The scratch space of the latest must not outgrow the tables.
	if first == 0 && places > 0 && (n >= places/16 || renumber) {
		latest, n = findLatest(merge, places)
		m.order = 1 // that of all that are kept
	} else if len(merge) == 1 {
		return
	}
	t := newPmapTable(n)
	for i := len(merge) - 1; i >= 0; i-- {
		t.fill(merge[i], latest)
	}
	m.tables = append(m.tables[:first:first], t)
}

// pmapLatest is the order of the latest entry by value. Of a nil one, all entries
// are among the latest.
type pmapLatest []uint32

// findLatest returns the latest entries of all values below places, and how many
// there are.
func findLatest(tables []*pmapTable, places int) (latest pmapLatest, n int) {
	latest = make(pmapLatest, places)
	for _, t := range tables {
		for i := range t.slots {
			e := &t.slots[i]
			if e.key == 0 || int(e.value) >= places {
				continue
			}
			at := &latest[e.value]
			if *at == 0 {
				n++
			}
			*at = max(*at, e.order)
		}
	}
	return latest, n
}

func (l pmapLatest) has(e *pmapEntry) bool {
	return l == nil || int(e.value) < len(l) && l[e.value] == e.order
}
