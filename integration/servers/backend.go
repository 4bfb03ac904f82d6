// SPDX-License-Identifier: Apache-2.0

package servers

import (
	"context"
	"errors"
)

// A backend makes servers one way. available returns "" when it can make this
// flavour, else what is missing.
type backend interface {
	available(context.Context, Flavour) (missing string)
	create(context.Context, Flavour, Options, *ca) (instance, error)
	close() error
}

var (
	containers backend = &dockerBackend{}
	processes  backend = &nativeBackend{}
)

// backendFor chooses as LOCKSTEP_E2E says: containers first, because only they
// have all four flavours.
func backendFor(ctx context.Context, f Flavour) (backend, error) {
	mode, err := modeFromEnv()
	if err != nil {
		return nil, err
	}
	var order []backend
	switch mode {
	case modeOff:
		return nil, &absentError{f, []string{"LOCKSTEP_E2E=off"}}
	case modeDocker:
		order = []backend{containers}
	case modeNative:
		order = []backend{processes}
	default:
		order = []backend{containers, processes}
	}
	absent := &absentError{flavour: f}
	for _, b := range order {
		missing := b.available(ctx, f)
		if missing == "" {
			return b, nil
		}
		absent.why = append(absent.why, missing)
	}
	return nil, absent
}

func closeBackends() error { return errors.Join(containers.close(), processes.close()) }
