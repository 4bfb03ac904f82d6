// SPDX-License-Identifier: Apache-2.0

package client

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"
)

// EnvConfig reads the configuration of a bot from the environment, with the
// same names as the lockstep command:
//
//	LOCKSTEP_ACCOUNT        the JID
//	LOCKSTEP_PASSWORD       or LOCKSTEP_PASSWORD_FILE
//	LOCKSTEP_SERVER         host:port, if DNS does not say
//	LOCKSTEP_CA_FILE        certificate authorities, PEM, if not the system's
//	LOCKSTEP_SERVICE        the delivery service, if it is not to be discovered
//	LOCKSTEP_STATE          the file for keys and groups, if not the usual one
func EnvConfig() (Config, error) {
	cfg := Config{
		JID: os.Getenv("LOCKSTEP_ACCOUNT"), Password: os.Getenv("LOCKSTEP_PASSWORD"), Server: os.Getenv("LOCKSTEP_SERVER"),
		Service: os.Getenv("LOCKSTEP_SERVICE"), StorePath: os.Getenv("LOCKSTEP_STATE"),
	}
	if cfg.JID == "" {
		return cfg, errors.New("client: LOCKSTEP_ACCOUNT is not set")
	}
	if f := os.Getenv("LOCKSTEP_PASSWORD_FILE"); f != "" && cfg.Password == "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return cfg, fmt.Errorf("client: reading the password: %w", err)
		}
		cfg.Password = strings.TrimRight(string(b), "\r\n")
	}
	if f := os.Getenv("LOCKSTEP_CA_FILE"); f != "" {
		pem, err := os.ReadFile(f)
		if err != nil {
			return cfg, fmt.Errorf("client: reading certificate authorities: %w", err)
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return cfg, fmt.Errorf("client: %s holds no certificate in PEM form", f)
		}
		cfg.TLS = &tls.Config{RootCAs: pool}
	}
	return cfg, nil
}
