package engine

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/manageddomains/md/acmeclient"
	"github.com/manageddomains/md/internal/live"
	"github.com/manageddomains/md/internal/policy"
	"github.com/manageddomains/md/internal/record"
)

// FilePair is a certificate with its chain and a key, in two PEM files that
// somebody else looks after.
type FilePair struct{ Cert, Key string }

// A FileError says which files of a Domain cannot be used.
type FileError struct {
	Domain string
	Err    error
}

func (e *FileError) Error() string { return fmt.Sprintf("the files of Domain %q: %v", e.Domain, e.Err) }

// Unwrap returns what is wrong with the files.
func (e *FileError) Unwrap() error { return e.Err }

// files are what a Domain has of its FilePairs. The fields are guarded by the
// Engine's mu; what they point to is never changed.
type files struct {
	site  *live.Site
	certs []certificate
	seen  []stamp // of what was read last, whether it could be used or not
	err   error   // why that could not be used; then the rest is of before
}

// A stamp tells whether a file has changed.
type stamp struct {
	size     int64
	modified time.Time
	missing  bool
}

// maxFile bounds a file that is read.
const maxFile = 1 << 20

// readFiles reads the Domain's files if they have changed, and has them served:
// all pairs of them, or what was served before. Files are often written one
// after the other, so that a pair may not match for a moment.
func (e *Engine) readFiles(ctx context.Context, d *domain) error {
	e.mu.Lock()
	def, old := d.def, d.files
	e.mu.Unlock()
	if len(def.Files) == 0 {
		return nil
	}
	seen := stampsOf(def.Files)
	same := old != nil && slices.Equal(seen, old.seen)
	if same && old.err == nil {
		return nil
	}
	set, err := readPairs(def.Files)
	if err == nil && !slices.Equal(seen, stampsOf(def.Files)) {
		return nil // somebody writes them at this moment
	}
	now := &files{seen: seen, err: err}
	if err == nil {
		now.certs = certificatesOf(set)
		var creds []*live.Credential
		if creds, now.err = e.credentials(ctx, d, set); now.err == nil {
			e.mu.Lock()
			now.site = d.siteOf(creds)
			e.mu.Unlock()
		}
	}
	if same && now.err != nil && now.err.Error() == old.err.Error() { // which may end without a change of the files
		return old.err
	}
	if now.err != nil && old != nil {
		now.site, now.certs = old.site, old.certs
	}
	e.takeFiles(d, def, now)
	if now.err != nil {
		return &FileError{Domain: def.Name, Err: now.err}
	}
	return nil
}

// takeFiles has files served that were read.
func (e *Engine) takeFiles(d *domain, def *Domain, f *files) {
	e.mu.Lock()
	if d.removed || d.def != def {
		e.mu.Unlock()
		return
	}
	changed := f.err == nil && d.files != nil && !slices.EqualFunc(f.certs, d.files.certs, sameLeaf)
	d.files = f
	e.serve(d)
	if changed && d.loaded {
		e.bringNews(d)
	}
	if d.loaded && d.state == idle {
		e.schedule(d, e.now()) // somebody may have to be warned
	}
	e.announceChange()
	e.mu.Unlock()
	if f.err != nil {
		e.log.Error("files of a Domain cannot be used; what was served before is served on", "domain", def.Name, "error", f.err)
		return
	}
	for _, name := range def.Names {
		if !f.cover(name) {
			e.log.Warn("the files of a Domain do not cover one of its names", "domain", def.Name, "name", name)
		}
	}
	e.log.Info("certificates were read from files", "domain", def.Name)
}

func sameLeaf(a, b certificate) bool { return bytes.Equal(a.leaf, b.leaf) }

// cover reports whether one of the files' certificates covers name.
func (f *files) cover(name string) bool {
	return f != nil && slices.ContainsFunc(f.certs, func(c certificate) bool { return policy.Covers(c.Names, name) })
}

// good reports whether all of the files' certificates are in date.
func (f *files) good(now time.Time) bool {
	return f != nil && len(f.certs) > 0 && !slices.ContainsFunc(f.certs, func(c certificate) bool { return !now.Before(c.NotAfter) })
}

// gone reports whether a file is not there any more.
func (f *files) gone() bool {
	return f != nil && slices.ContainsFunc(f.seen, func(s stamp) bool { return s.missing })
}

// siteFor is what serves name: the files while they are there and in date, else
// what was ordered if that is any better. It is nil if neither covers the name.
// e.mu is held.
func (d *domain) siteFor(name string, now time.Time) *live.Site {
	ordered := slices.ContainsFunc(d.certs, func(c certificate) bool { return policy.Covers(c.Names, name) })
	inDate := slices.ContainsFunc(d.certs, func(c certificate) bool {
		return now.Before(c.NotAfter) && policy.Covers(c.Names, name)
	})
	switch {
	case d.files.cover(name) && d.files.good(now) && !(d.files.gone() && inDate):
		return d.files.site
	case inDate, ordered && !d.files.cover(name):
		return d.site
	case d.files.cover(name):
		return d.files.site
	}
	return nil
}

// watchFiles reads files that have changed, and goes over to what was ordered
// when they have expired.
func (e *Engine) watchFiles(ctx context.Context) {
	e.mu.Lock()
	var with []*domain
	for _, d := range e.domains {
		if len(d.def.Files) > 0 {
			with = append(with, d)
		}
	}
	e.mu.Unlock()
	for _, d := range with {
		if ctx.Err() != nil {
			return
		}
		_ = e.readFiles(ctx, d) // which has logged it
		e.mu.Lock()
		if !d.removed && !d.files.good(e.now()) {
			e.serve(d)
		}
		e.mu.Unlock()
	}
}

// stampsOf looks at the files, without reading them.
func stampsOf(pairs []FilePair) []stamp {
	var stamps []stamp
	for _, p := range pairs {
		for _, name := range []string{p.Cert, p.Key} {
			info, err := os.Stat(name)
			if err != nil {
				stamps = append(stamps, stamp{missing: errors.Is(err, fs.ErrNotExist)})
				continue
			}
			stamps = append(stamps, stamp{size: info.Size(), modified: info.ModTime()})
		}
	}
	return stamps
}

// readPairs makes of files what a Set has.
func readPairs(pairs []FilePair) (*record.Set, error) {
	set := new(record.Set)
	for i, p := range pairs {
		c, err := readPair(p)
		if err != nil {
			return nil, err
		}
		if c.KeyType == "" {
			c.KeyType = fmt.Sprint(i)
		}
		set.Credentials = append(set.Credentials, c)
	}
	return set, nil
}

func readPair(p FilePair) (record.Credential, error) {
	var none record.Credential
	cert, err := readFile(p.Cert)
	if err != nil {
		return none, err
	}
	key, err := readFile(p.Key)
	if err != nil {
		return none, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err == nil && torn(cert) {
		err = errors.New("the chain breaks off within a certificate")
	}
	if err != nil {
		return none, fmt.Errorf("%s and %s: %w", p.Cert, p.Key, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return none, fmt.Errorf("%s: %w", p.Key, err)
	}
	return record.Credential{
		Meta: record.Meta{KeyType: string(acmeclient.KeyTypeOf(pair.Leaf.PublicKey))},
		Key:  der, Chain: pair.Certificate,
	}, nil
}

// torn reports whether a PEM file ends within a block, as one does that is just
// being written: what comes before may be the leaf, whose key matches.
func torn(file []byte) bool {
	for block := new(pem.Block); block != nil; {
		block, file = pem.Decode(file)
	}
	return bytes.Contains(file, []byte("-----BEGIN "))
}

func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name) // before it is opened: to open a FIFO would wait for a writer
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file, which it must be to be read again", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxFile)
	}
	return data, err
}

// served are the certificates that the Domain is served with. e.mu is held.
func (d *domain) served(now time.Time) []certificate {
	if d.files == nil || len(d.files.certs) == 0 || (d.files.gone() || !d.files.good(now)) && len(d.certs) > 0 {
		return d.certs
	}
	return d.files.certs
}

// filesError is what is wrong with the Domain's files. e.mu is held.
func (d *domain) filesError() error {
	if d.files == nil {
		return nil
	}
	return d.files.err
}

// firstWarning is when somebody has to be warned of the Domain's certificates.
// e.mu is held.
func (d *domain) firstWarning(now time.Time) time.Time {
	var first time.Time
	for _, c := range d.served(now) {
		if at := d.def.warnAt(c); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return cmp.Or(first, now)
}
