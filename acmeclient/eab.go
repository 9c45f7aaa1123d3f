package acmeclient

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/acme"
)

const (
	maxKeyID    = 1024     // bytes
	maxHMAC     = 4096     // characters of base64
	maxEABFile  = 64 << 10 // bytes
	minHMAC     = 16       // bytes. RFC 7518 §3.2 wants 32 for HS256, but what a CA gives out is not for us to refuse
	maxIDPrefix = 32       // bytes of a key ID that are legible in an account's id
)

// EAB binds an account to one that exists at the CA's web site (external account binding, RFC 8555 §7.3.4), which gives
// out its two parts. The zero EAB is none. Set KeyID and HMAC, or File.
//
// Many CAs let a binding make one account only. It is needed until the account is registered, and its KeyID after that
// too, because that is how the account is found: see [CA.AccountID].
type EAB struct {
	// KeyID is the identifier of the binding's key, as the CA gave it.
	KeyID string `json:"kid,omitempty"`

	// HMAC is the binding's key, as the CA gave it: base64url or base64, padded or not.
	HMAC Secret `json:"hmac,omitzero"`

	// File is the path of a file that has both as JSON, as Apache's mod_md reads it: {"kid": "…", "hmac": "…"}. Other
	// fields are ignored. It may have up to 64 KiB, and must not be for everybody to read. It is read by CA.ReadEAB.
	File string `json:"file,omitempty"`
}

// IsZero reports whether e is no binding.
func (e EAB) IsZero() bool { return e == EAB{} }

// check reports what is wrong with e without reading its File. The error is about "the EAB".
func (e EAB) check() error {
	switch {
	case e.IsZero():
		return nil
	case e.File != "" && (e.KeyID != "" || !e.HMAC.IsZero()):
		return errors.New("the EAB has a File and a KeyID or HMAC as well: leave one of them out")
	case e.File != "":
		return nil
	case e.KeyID == "":
		return errors.New("the EAB has an HMAC but no KeyID: the CA gives out both")
	case len(e.KeyID) > maxKeyID:
		return fmt.Errorf("the EAB's KeyID has %d bytes, more than %d", len(e.KeyID), maxKeyID)
	case !utf8.ValidString(e.KeyID) || strings.ContainsFunc(e.KeyID, isOddInKeyID):
		return fmt.Errorf("the EAB's KeyID %q has characters that cannot be meant", clean(e.KeyID, 64))
	}
	_, err := decodeHMAC(e.HMAC)
	return err
}

func isOddInKeyID(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }

// decodeHMAC reads the key in base64url (RFC 4648 §5), which RFC 8555 §7.3.4 wants, or in base64, which some CAs show.
// Its errors do not have any of it.
func decodeHMAC(s Secret) ([]byte, error) {
	text := strings.TrimSpace(s.Reveal())
	switch {
	case text == "":
		return nil, errors.New("the EAB has a KeyID but no HMAC: the CA gives out both")
	case len(text) > maxHMAC:
		return nil, fmt.Errorf("the EAB's HMAC has %d characters, more than %d", len(text), maxHMAC)
	}
	unpadded := strings.TrimRight(text, "=")
	key, err := base64.RawURLEncoding.DecodeString(strings.NewReplacer("+", "-", "/", "_").Replace(unpadded))
	if err != nil || len(text)-len(unpadded) > 2 {
		return nil, errors.New("the EAB's HMAC is neither base64url nor base64: copy it as the CA shows it, and whole")
	}
	if len(key) < minHMAC {
		return nil, fmt.Errorf("the EAB's HMAC has %d bytes, too few for a key (at least %d): copy it as the CA shows it, and whole", len(key), minHMAC)
	}
	return key, nil
}

// binding returns e for x/crypto, or nil for the zero EAB.
func (e EAB) binding() (*acme.ExternalAccountBinding, error) {
	if e.File != "" {
		return nil, errUnreadEAB
	}
	if err := e.check(); err != nil || e.IsZero() {
		return nil, err
	}
	key, err := decodeHMAC(e.HMAC)
	if err != nil {
		return nil, err
	}
	return &acme.ExternalAccountBinding{KID: e.KeyID, Key: key}, nil
}

// errUnreadEAB is about a caller who has forgotten something.
var errUnreadEAB = errors.New("the EAB's File has not been read (CA.ReadEAB)")

// ReadEAB returns ca with EAB.KeyID and EAB.HMAC as EAB.File has them, and without File. Without a File it returns ca as
// it is. The file is read anew at each call: call it once per attempt, and a file that was replaced is seen.
// The error says what to do about the file, and is fs.ErrNotExist or fs.ErrPermission if it is that.
func (ca CA) ReadEAB(ctx context.Context) (CA, error) {
	file := ca.EAB.File
	if file == "" {
		return ca, nil
	}
	if err := ctx.Err(); err != nil {
		return CA{}, err
	}
	text, err := readEABFile(file)
	if err != nil {
		return CA{}, err
	}
	var said struct {
		KeyID string `json:"kid"`
		HMAC  Secret `json:"hmac"`
	}
	if err := json.Unmarshal(text, &said); err != nil {
		// Not the error's text: it may quote what is in the file.
		return CA{}, fmt.Errorf(`the EAB file %s is not JSON of the form {"kid": "…", "hmac": "…"}`, file)
	}
	switch {
	case said.KeyID == "":
		return CA{}, fmt.Errorf("the EAB file %s has no \"kid\"", file)
	case said.HMAC.IsZero():
		return CA{}, fmt.Errorf("the EAB file %s has no \"hmac\"", file)
	}
	ca.EAB = EAB{KeyID: said.KeyID, HMAC: said.HMAC}
	if err := ca.EAB.check(); err != nil {
		return CA{}, fmt.Errorf("the EAB file %s: %w", file, err)
	}
	return ca, nil
}

// readEABFile reads a file that is small, and a secret.
func readEABFile(file string) ([]byte, error) {
	info, err := os.Stat(file) // before it is opened: to open a FIFO would wait for a writer
	if err != nil {
		return nil, fmt.Errorf("the EAB file cannot be read: %w", err)
	}
	const others, groupWrite = 0o007, 0o020
	switch mode := info.Mode(); {
	case !mode.IsRegular():
		return nil, fmt.Errorf("the EAB file %s is not a file but %v", file, mode.Type())
	case runtime.GOOS != "windows" && mode.Perm()&(others|groupWrite) != 0: // which has no such bits
		return nil, fmt.Errorf("the EAB file %s has mode %04o: others than its owner and group can use it; chmod 600 %[1]s", file, mode.Perm())
	case info.Size() > maxEABFile:
		return nil, fmt.Errorf("the EAB file %s has %d bytes, more than %d", file, info.Size(), maxEABFile)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("the EAB file cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEABFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the EAB file cannot be read: %w", err)
	case len(text) > maxEABFile:
		return nil, fmt.Errorf("the EAB file %s has more than %d bytes", file, maxEABFile)
	}
	return text, nil
}

// defaultAccountID is the id of an account that is not bound to an external one.
const defaultAccountID = "default"

// AccountID returns what tells ca's account from others at the same URL, as one component of a Store's key: lower-case
// letters, digits and hyphens, up to 80 of them. It is
//
//   - "default" without EAB and AccountKey;
//   - with an EAB, a name made of its KeyID: CAs with one binding share an account, another binding has another account, and
//     going back finds the former one. The HMAC has no part in it: who mends a wrong one goes on with the same account key;
//   - with an AccountKey, a name made of its public key, whatever the EAB: to the CA, the key is the account (RFC 8555 §7.3.1).
//
// It fails if the EAB's File has not been read (ReadEAB), or the AccountKey cannot be used.
func (ca CA) AccountID() (string, error) {
	switch {
	case ca.AccountKey != nil:
		if err := checkAccountKey(ca.AccountKey); err != nil {
			return "", err
		}
		der, err := x509.MarshalPKIXPublicKey(ca.AccountKey.Public())
		if err != nil {
			return "", fmt.Errorf("the AccountKey: %w", err)
		}
		return "key-" + shortHash(der), nil
	case ca.EAB.File != "":
		return "", errUnreadEAB
	case ca.EAB.KeyID == "":
		return defaultAccountID, nil
	}
	// Key IDs differ in case and may have any character. The hash tells them apart, what precedes it is for people.
	legible := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(ca.EAB.KeyID))
	legible = strings.Trim(legible[:min(len(legible), maxIDPrefix)], "-")
	return strings.TrimSuffix("eab-"+legible, "-") + "-" + shortHash([]byte(ca.EAB.KeyID)), nil
}

// shortHash is half of the SHA-256 of b in hexadecimal.
func shortHash(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:16])
}
