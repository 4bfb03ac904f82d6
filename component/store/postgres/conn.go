// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/lockstep-im/lockstep/component/store/internal/relational"
)

const maxQueue = 500 // statements sent without waiting for answers

// conn is a transaction as relational.Conn. Statements whose answers nobody
// waits for travel together with the next one, BEGIN and COMMIT too: a round
// trip is what a statement costs here.
type conn struct {
	ctx   context.Context
	c     *pgx.Conn
	queue pgx.Batch
	sent  bool // the server has seen something of this transaction
	last  bool // COMMIT has been sent
}

func begin(ctx context.Context, c *pgx.Conn, how string) *conn {
	t := &conn{ctx: ctx, c: c}
	t.queue.Queue(how)
	return t
}

// send sends what is queued and consumes the answers but the last.
func (t *conn) send() (pgx.BatchResults, error) {
	b := t.queue
	t.queue = pgx.Batch{}
	t.sent = true
	r := t.c.SendBatch(t.ctx, &b)
	for range b.Len() - 1 {
		if _, err := r.Exec(); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

// Query implements relational.Conn.
func (t *conn) Query(q string, row func(relational.Row) error, args ...any) error {
	t.queue.Queue(q, args...)
	r, err := t.send()
	if err != nil {
		return fault(err)
	}
	rows, err := r.Query()
	if err != nil {
		r.Close()
		return fault(err)
	}
	var stop error
	for rows.Next() && stop == nil {
		stop = row(result(rows.RawValues()))
	}
	rows.Close()
	if err := rows.Err(); err != nil {
		r.Close()
		return fault(err)
	}
	if err := r.Close(); err != nil {
		return fault(err)
	}
	return stop
}

// Exec implements relational.Conn.
func (t *conn) Exec(q string, args ...any) (int64, error) {
	t.queue.Queue(q, args...)
	r, err := t.send()
	if err != nil {
		return 0, fault(err)
	}
	tag, err := r.Exec()
	if e := r.Close(); err == nil {
		err = e
	}
	return tag.RowsAffected(), fault(err)
}

// Queue implements relational.Conn.
func (t *conn) Queue(q string, args ...any) error {
	if t.queue.Len() >= maxQueue {
		if _, err := t.Exec(q, args...); err != nil {
			return err
		}
		return nil
	}
	t.queue.Queue(q, args...)
	return nil
}

// commit ends the transaction and makes it durable.
func (t *conn) commit() error {
	if !t.sent && t.queue.Len() == 1 {
		return nil // nothing but the BEGIN that never left
	}
	t.last = true
	_, err := t.Exec("COMMIT")
	return err
}

// rollback gives the transaction up, so that the connection can be used again.
func (t *conn) rollback() {
	if !t.sent || t.c.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.ctx), 5*time.Second)
	defer cancel()
	if _, err := t.c.Exec(ctx, "ROLLBACK"); err != nil {
		t.c.Close(ctx)
	}
}

// result is a row: columns in PostgreSQL's binary format.
type result [][]byte

func (r result) Int(col int) int64 {
	switch b := r[col]; len(b) {
	case 0:
		return 0
	case 2:
		return int64(int16(binary.BigEndian.Uint16(b)))
	case 4:
		return int64(int32(binary.BigEndian.Uint32(b)))
	case 8:
		return int64(binary.BigEndian.Uint64(b))
	default:
		panic(fmt.Sprintf("postgres: column %d is not an integer", col))
	}
}

func (r result) Text(col int) string { return string(r[col]) }

func (r result) Bytes(col int) []byte {
	if r[col] == nil {
		return nil
	}
	return append([]byte{}, r[col]...)
}
