// Package migrate reads what other tools wrote: foreign files in, Sets out.
//
// [Read] looks through the directory of a certbot, certmagic (Caddy),
// autocert, lego or acme.sh, or one that holds PEM files, and returns the
// certificates in it that can be served, the accounts that can be
// used, and a report with a row for each thing that it found: taken, or why
// not. [For] and [Sets] then make Sets of the certificates, and [Chosen]
// picks the account to go on with at each CA. To write them into a Store is
// the caller's.
//
// A foreign directory is not trusted: files, directories and numbers are
// bounded, only regular files are read, and no symbolic link is followed but
// those that certbot makes, inside the directory. Nothing is ever written.
package migrate

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/manageddomains/md/internal/record"
)

// Format names the tool that wrote a directory.
type Format string

// The formats. PEM is a directory of PEM files by whatever tool, or one file
// that holds a key and its certificates.
const (
	Certbot   Format = "certbot"
	Certmagic Format = "certmagic"
	Autocert  Format = "autocert"
	Lego      Format = "lego"
	AcmeSh    Format = "acme.sh"
	PEM       Format = "pem"
)

// ErrUnknown reports a directory that no tool seems to have written of those
// that Read knows.
var ErrUnknown = errors.New("not a directory that can be imported")

// Options say how to read. The zero Options are usable.
type Options struct {
	// Format is the tool that wrote the directory. Empty: it is found out.
	Format Format

	// CA is the directory URL of the CA that certificates and accounts are
	// from where the files do not say it, as autocert's do not. Empty: of
	// such certificates the origin stays unknown, and such accounts cannot
	// be taken.
	CA string

	// CAs are directory URLs by which a CA is known again where a tool kept
	// only its host, as lego does.
	CAs []string

	// Now is the moment at which certificates must be valid. Zero: the
	// present.
	Now time.Time
}

// Result is what Read found.
type Result struct {
	Format       Format
	Certificates []Found
	Accounts     []Account
	Report       []Row // in the order of reading, which is the same each time
}

// Found is a certificate with its private key and all that is known of it.
type Found struct {
	Path  string   // of its file, below the directory, with slashes
	Names []string // DNS names in lower case and IP addresses, as in the certificate; at least one
	// Credential holds key, chain and origin. Its When is the beginning of
	// the certificate's validity: files do not say reliably when it came.
	Credential record.Credential

	NotBefore, NotAfter time.Time
}

// Account is an account at the CA of that directory URL.
type Account struct {
	Path    string // of its key, below the directory, with slashes
	CA      string
	Account record.Account
}

// Row tells what became of one thing in the directory.
type Row struct {
	Path  string // below the directory, with slashes; it may be anything that a file name may
	What  string // "certificate", "account" or "directory"
	Name  string // the certificate's first name, or the account's URL, as far as known
	Taken bool
	Why   string // why it was not taken, or what should be known of it
}

// Read reads the directory, or the single PEM file, at place. For certbot,
// place is its configuration directory (/etc/letsencrypt), the directory
// live in it, or that of one certificate there.
//
// What cannot be used is told in the report. The error is for what leaves
// nothing to report: a place that cannot be opened, one that holds nothing
// known (ErrUnknown), more than a directory may hold, or the end of ctx.
func Read(ctx context.Context, place string, o Options) (*Result, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	d, only, err := openDir(ctx, place)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", place, err)
	}
	defer d.close()
	if o.Format == "" {
		if o.Format, err = detect(d, only); err != nil {
			return nil, fmt.Errorf("looking into %s: %w", place, err)
		}
	}
	r := &reader{dir: d, opts: o, only: only, result: &Result{Format: o.Format}}
	if err := r.read(); err != nil {
		return nil, fmt.Errorf("reading %s as written by %s: %w", place, o.Format, err)
	}
	return r.result, nil
}

// reader is one Read under way.
type reader struct {
	dir    *dir
	opts   Options
	only   string // if not empty, the one lineage of certbot's, or the one file, that is asked for
	result *Result
}

// read returns an error only for what ends all reading: see fatal.
func (r *reader) read() error {
	switch r.opts.Format {
	case Certbot:
		return r.readCertbot()
	case Certmagic:
		return r.readCertmagic()
	case Autocert:
		return r.readAutocert()
	case Lego:
		return r.readLego()
	case AcmeSh:
		return r.readAcmeSh()
	case PEM:
		return r.readPEM()
	}
	return fmt.Errorf("%w: the format %q is not known", ErrUnknown, r.opts.Format)
}

// What a Row is about.
const (
	aCertificate = "certificate"
	anAccount    = "account"
	aDirectory   = "directory"
)

// tell adds a row to the report.
func (r *reader) tell(row Row) { r.result.Report = append(r.result.Report, row) }

// refuse reports what is not taken. It returns err if that ends all reading.
func (r *reader) refuse(what, path, name string, err error) error {
	if fatal(err) {
		return err
	}
	r.tell(Row{Path: path, What: what, Name: name, Why: explain(err)})
	return nil
}
