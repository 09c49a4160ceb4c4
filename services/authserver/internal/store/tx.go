package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// A transaction travels in the context. One that begins inside another joins it, and all end with the outermost.
type tx struct {
	*sql.Tx
	depth   int
	broken  bool // an inner one was rolled back, so nothing of it may stay
	revoked bool // there is a revocation in it
}

type txKey struct{}

func current(ctx context.Context) *tx {
	t, _ := ctx.Value(txKey{}).(*tx)
	return t
}

// Begin starts a write transaction or joins the context's.
func (d *DB) Begin(ctx context.Context) (context.Context, error) {
	if t := current(ctx); t != nil {
		t.depth++
		return ctx, nil
	}
	t, err := d.write.BeginTx(ctx, nil)
	if err != nil {
		return ctx, fmt.Errorf("beginning a transaction: %w", err)
	}
	return context.WithValue(ctx, txKey{}, &tx{Tx: t, depth: 1}), nil
}

// Commit ends what Begin began.
func (d *DB) Commit(ctx context.Context) error {
	t := current(ctx)
	if t == nil {
		return errors.New("no transaction to commit")
	}
	t.depth--
	switch {
	case t.depth > 0:
		return nil
	case t.broken:
		t.Tx.Rollback() // the reason was returned by whoever broke it
		return errors.New("the transaction was rolled back inside")
	}
	if err := t.Tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	if t.revoked {
		d.wake()
	}
	return nil
}

// Rollback ends what Begin began and undoes it all.
func (d *DB) Rollback(ctx context.Context) error {
	t := current(ctx)
	if t == nil {
		return errors.New("no transaction to roll back")
	}
	t.depth--
	t.broken = true
	if t.depth > 0 {
		return nil
	}
	if err := t.Tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
		return fmt.Errorf("rolling back: %w", err)
	}
	return nil
}

// Tx runs f in one write transaction. Its error undoes everything.
func (d *DB) Tx(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, err := d.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f(ctx); err != nil {
		return errors.Join(err, d.Rollback(ctx))
	}
	return d.Commit(ctx)
}

func (d *DB) exec(ctx context.Context, query string, args ...any) (changed int64, err error) {
	var r sql.Result
	if t := current(ctx); t != nil {
		r, err = t.ExecContext(ctx, query, args...)
	} else {
		r, err = d.write.ExecContext(ctx, query, args...)
	}
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// change runs a statement that must change a row; none means otherwise.
func (d *DB) change(ctx context.Context, otherwise error, query string, args ...any) error {
	n, err := d.exec(ctx, query, args...)
	if err == nil && n == 0 {
		return otherwise
	}
	return err
}

// row reads one row: in the transaction where there is one.
func (d *DB) row(ctx context.Context, query string, args []any, into ...any) error {
	var r *sql.Row
	if t := current(ctx); t != nil {
		r = t.QueryRowContext(ctx, query, args...)
	} else {
		r = d.read.QueryRowContext(ctx, query, args...)
	}
	return notFound(r.Scan(into...))
}

// take runs a statement with RETURNING, so on the writing connection.
func (d *DB) take(ctx context.Context, query string, args []any, into ...any) error {
	var r *sql.Row
	if t := current(ctx); t != nil {
		r = t.QueryRowContext(ctx, query, args...)
	} else {
		r = d.write.QueryRowContext(ctx, query, args...)
	}
	return notFound(r.Scan(into...))
}

func notFound(err error) error {
	if errors.Is(err, sql.ErrNoRows) {
		return ErrNotFound
	}
	return err
}

func (d *DB) rows(ctx context.Context, query string, args []any, each func(scan func(...any) error) error) error {
	var rows *sql.Rows
	var err error
	if t := current(ctx); t != nil {
		rows, err = t.QueryContext(ctx, query, args...)
	} else {
		rows, err = d.read.QueryContext(ctx, query, args...)
	}
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := each(rows.Scan); err != nil {
			return err
		}
	}
	return rows.Err()
}
