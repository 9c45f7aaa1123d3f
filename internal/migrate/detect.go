package migrate

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// detect finds out which tool wrote a directory, by what no other one leaves
// there.
func detect(d *dir, only string) (Format, error) {
	top, err := d.list(".")
	if err != nil {
		return "", err
	}
	has := func(name string) bool { return slices.Contains(top.dirs, name) }
	switch {
	case has("live") && (has("archive") || has("renewal")):
		return Certbot, nil
	case only != "":
		return PEM, nil
	case has("acme"), has("certificates") && d.has("certificates", func(e entries) bool { return len(e.dirs) > 0 }):
		return Certmagic, nil
	case has("certificates"), has("accounts"):
		return Lego, nil
	case isAcmeSh(d, top):
		return AcmeSh, nil
	case slices.ContainsFunc(top.files, isPEMFile):
		return PEM, nil
	case slices.ContainsFunc(top.files, isAutocertFile):
		return Autocert, nil
	}
	return "", fmt.Errorf("%w: it has nothing that certbot, certmagic, autocert, lego or acme.sh leaves, and no PEM files", ErrUnknown)
}

// has reports whether there is a directory of which that is true.
func (d *dir) has(name string, is func(entries) bool) bool {
	e, err := d.list(name)
	return err == nil && is(e)
}

// isAcmeSh looks for acme.sh's configuration, or for the directory of one
// certificate, which has the chain under a name of its own.
func isAcmeSh(d *dir, top entries) bool {
	if slices.Contains(top.files, "account.conf") || slices.Contains(top.dirs, "ca") {
		return true
	}
	for _, sub := range top.dirs {
		if _, err := d.root.Lstat(path.Join(sub, acmeShChain)); err == nil {
			return true
		} else if !errors.Is(err, fs.ErrNotExist) {
			continue
		}
	}
	return false
}

// isPEMFile reports whether people give such names to PEM files.
func isPEMFile(name string) bool {
	return slices.Contains([]string{".pem", ".crt", ".cer", ".cert", ".key"}, strings.ToLower(path.Ext(name)))
}
