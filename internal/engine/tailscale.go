package engine

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/acmeclient/tailscale"
	"github.com/manageddomains/md/internal/record"
)

// tailscaleIssuer gets certificates from the Tailscale daemon of this machine,
// which orders them itself.
type tailscaleIssuer struct{ *attempt }

// issue asks the daemon for its certificate. Where that is the one in use, the
// daemon has not renewed it yet, and is asked again when a tenth of what is left has passed, and
// at least each day.
func (is tailscaleIssuer) issue(ctx context.Context, t acmeclient.KeyType) (record.Credential, error) {
	var none record.Credential
	is.step("asking the Tailscale daemon")
	daemon := &tailscale.Daemon{Socket: is.ca.Socket()}
	chain, key, err := daemon.Certificate(ctx, is.def.Names[0], 0)
	if err != nil {
		return none, err
	}
	now := is.e.now()
	if c := is.active.Credential(string(t)); c != nil && c.Complete() && bytes.Equal(c.Chain[0], chain[0]) {
		pause := min(max(is.left(now)/10, time.Minute), 24*time.Hour)
		return none, &blockedError{
			until: now.Add(pause), what: "there is nothing new", why: "the Tailscale daemon has not renewed the certificate yet",
		}
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, fmt.Errorf("encoding the key: %w", err)
	}
	cred := record.Credential{
		Meta: record.Meta{KeyType: string(t), CA: is.ca.URL, When: now.UTC().Truncate(time.Second)},
		Key:  der, Chain: chain,
	}
	if err := checkCredential(&cred, is.def.Names, now); err != nil {
		return none, fmt.Errorf("%w: %w", errBadCertificate, err)
	}
	is.log.Info("certificate obtained from the Tailscale daemon", "key", cred.KeyType)
	return cred, nil
}
