package live

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"io"
	mathrand "math/rand/v2"
	"slices"
	"testing"
)

// settings are the GODEBUG settings under which crypto/tls supports something
// else than by default.
var settings = []string{
	"",
	"tlsrsakex=1",
	"tls3des=1",
	"tlssha1=1",
	"tls10server=1",
	"tls10server=1,tlsrsakex=1,tls3des=1,tlssha1=1",
	"tlsmlkem=0",
}

// learnAll returns the needs of all test keys.
func learnAll() map[string]*needs {
	all := make(map[string]*needs)
	for name, key := range testKeys() {
		_, decrypts := key.(crypto.Decrypter)
		all[name] = learn(key.Public(), decrypts)
	}
	return all
}

// checkAgreement checks that all needs say of hello what crypto/tls says.
func checkAgreement(t *testing.T, all map[string]*needs, hello *tls.ClientHelloInfo) {
	t.Helper()
	for name, n := range all {
		err := hello.SupportsCertificate(&tls.Certificate{PrivateKey: testKeys()[name]})
		if got, want := n.metBy(hello, versionsOf(hello.SupportedVersions)), err == nil; got != want {
			t.Errorf("with a key of %s, metBy got %v, but SupportsCertificate says %v\nhello: %+v", name, got, err, hello)
		}
	}
}

func TestNeedsAgreeWithCryptoTLS(t *testing.T) {
	for _, setting := range settings {
		t.Run("with GODEBUG "+setting, func(t *testing.T) {
			t.Setenv("GODEBUG", setting)
			all := learnAll()
			for _, hello := range tellingHellos() {
				checkAgreement(t, all, hello)
			}
			random := mathrand.New(mathrand.NewPCG(1, 2))
			for range 5000 {
				data := make([]byte, 8+random.IntN(56))
				for i := range data {
					data[i] = byte(random.Uint32())
				}
				checkAgreement(t, all, helloOf(data))
			}
		})
	}
}

// FuzzNeeds checks the same for hellos that a fuzzer makes up.
func FuzzNeeds(f *testing.F) {
	all := learnAll()
	f.Add([]byte{})
	f.Add([]byte{2, 4, 3, 1, 0, 1, 1, 1, 5, 2, 9})
	f.Add([]byte{1, 3, 0, 2, 7, 8, 1, 2, 0, 2, 4, 6})
	f.Add([]byte{4, 1, 2, 3, 4, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 3, 0, 1, 2, 6, 1, 2, 3, 4, 5, 6})
	f.Fuzz(func(t *testing.T, data []byte) {
		checkAgreement(t, all, helloOf(data))
	})
}

// What hellos are made of. The last of each is known to nobody.
var (
	someVersions = []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13, 0x0300, 0x0305, 0x3a3a}
	someSchemes  = []tls.SignatureScheme{
		tls.PKCS1WithSHA1, tls.PKCS1WithSHA256, tls.PKCS1WithSHA384, tls.PKCS1WithSHA512,
		tls.PSSWithSHA256, tls.PSSWithSHA384, tls.PSSWithSHA512,
		tls.ECDSAWithSHA1, tls.ECDSAWithP256AndSHA256, tls.ECDSAWithP384AndSHA384, tls.ECDSAWithP521AndSHA512,
		tls.Ed25519, 0x0808, 0x1a1a,
	}
	someCurves = []tls.CurveID{
		tls.CurveP256, tls.CurveP384, tls.CurveP521, tls.X25519, tls.X25519MLKEM768,
		tls.SecP256r1MLKEM768, tls.SecP384r1MLKEM1024, 21, 0x0100, 0x2a2a,
	}
	somePoints = []uint8{0, 1, 2, 77}
	someSuites = append(everySuite(), tls.TLS_AES_128_GCM_SHA256, tls.TLS_FALLBACK_SCSV, 0x00ff, 0x4a4a)
)

// helloOf makes a hello of data: each list is a length and so many choices.
func helloOf(data []byte) *tls.ClientHelloInfo {
	next := func() int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b)
	}
	return &tls.ClientHelloInfo{
		SupportedVersions: pick(someVersions, 4, next),
		SignatureSchemes:  pick(someSchemes, 6, next),
		SupportedCurves:   pick(someCurves, 4, next),
		SupportedPoints:   pick(somePoints, 3, next),
		CipherSuites:      pick(someSuites, 8, next),
	}
}

func pick[T any](from []T, most int, next func() int) []T {
	var list []T
	for range next() % (most + 1) {
		list = append(list, from[next()%len(from)])
	}
	return list
}

// tellingHellos are hellos that lack one thing each.
func tellingHellos() []*tls.ClientHelloInfo {
	hellos := []*tls.ClientHelloInfo{{}, modernHello(""), rsaHello("")}
	for _, base := range slices.Clone(hellos) {
		for _, change := range []func(h *tls.ClientHelloInfo){
			func(h *tls.ClientHelloInfo) { h.SignatureSchemes = nil },
			func(h *tls.ClientHelloInfo) { h.SignatureSchemes = []tls.SignatureScheme{tls.Ed25519} },
			func(h *tls.ClientHelloInfo) { h.SignatureSchemes = []tls.SignatureScheme{tls.ECDSAWithP521AndSHA512} },
			func(h *tls.ClientHelloInfo) {
				h.SignatureSchemes = []tls.SignatureScheme{tls.PKCS1WithSHA1, tls.ECDSAWithSHA1}
			},
			func(h *tls.ClientHelloInfo) { h.SignatureSchemes = []tls.SignatureScheme{tls.PSSWithSHA512} },
			func(h *tls.ClientHelloInfo) { h.SupportedCurves = nil },
			func(h *tls.ClientHelloInfo) { h.SupportedCurves = []tls.CurveID{tls.X25519} },
			func(h *tls.ClientHelloInfo) { h.SupportedCurves = []tls.CurveID{tls.X25519MLKEM768} },
			func(h *tls.ClientHelloInfo) { h.SupportedCurves = []tls.CurveID{tls.CurveP521} },
			func(h *tls.ClientHelloInfo) { h.SupportedPoints = nil },
			func(h *tls.ClientHelloInfo) { h.SupportedPoints = []uint8{1, 2} },
			func(h *tls.ClientHelloInfo) { h.SupportedPoints = []uint8{2, 0} },
			func(h *tls.ClientHelloInfo) { h.CipherSuites = nil },
			func(h *tls.ClientHelloInfo) { h.CipherSuites = []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA} },
			func(h *tls.ClientHelloInfo) { h.CipherSuites = []uint16{tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA} },
			func(h *tls.ClientHelloInfo) { h.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA} },
			func(h *tls.ClientHelloInfo) { h.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA} },
			func(h *tls.ClientHelloInfo) { h.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} },
		} {
			for _, versions := range [][]uint16{
				base.SupportedVersions, {}, {0x0305}, {tls.VersionTLS13}, {tls.VersionTLS12}, {tls.VersionTLS11},
				{tls.VersionTLS10, tls.VersionTLS11}, {tls.VersionTLS10, tls.VersionTLS13},
			} {
				hello := *base
				hello.SupportedVersions = versions
				change(&hello)
				hellos = append(hellos, &hello)
			}
		}
	}
	return hellos
}

func TestNeedsOfKeysThatCryptoTLSDoesNotKnow(t *testing.T) {
	n := learn(struct{ name string }{"a key of the future"}, false)
	for _, hello := range tellingHellos() {
		if len(hello.SignatureSchemes) == 0 {
			continue // TLS 1.3 forbids it, and crypto/tls does not go on to certificates
		}
		if n.metBy(hello, versionsOf(hello.SupportedVersions)) {
			t.Errorf("the needs are met by %+v, want by nothing", hello)
		}
	}
}

func TestLearningTouchesNoKey(t *testing.T) {
	for _, s := range []crypto.Signer{signer{}, decrypter{}} {
		if _, err := s.Sign(rand.Reader, nil, nil); err != errUsed {
			t.Errorf("Sign of a stand-in got error %v, want %v", err, errUsed)
		}
	}
	if _, err := (decrypter{}).Decrypt(rand.Reader, nil, nil); err != errUsed {
		t.Errorf("Decrypt of a stand-in got error %v, want %v", err, errUsed)
	}
}

// lookedAt is a key that fails the test when it is used.
type lookedAt struct {
	crypto.Signer
	t *testing.T
}

func (l lookedAt) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	l.t.Error("the key was used to sign")
	return nil, errUsed
}

func TestNeedsAreSharedByKeysOfOneKind(t *testing.T) {
	var chains Chains
	ca := newTestCA(t, "shared needs")
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other, err := chains.NewCredential(ca.chain(t, key.Public(), "a.example.com"), lookedAt{key, t})
	if err != nil {
		t.Fatal(err)
	}
	one := ca.credential(t, &chains, "P-256", "b.example.com")
	if one.needs != other.needs {
		t.Error("two P-256 keys have needs of their own, want the same")
	}
	larger := ca.credential(t, &chains, "P-384", "b.example.com")
	if one.needs == larger.needs {
		t.Error("a P-256 and a P-384 key share their needs, want other ones")
	}
	rsaKey := ca.credential(t, &chains, "RSA-2048", "b.example.com")
	signing := ca.credential(t, &chains, "RSA-2048 that cannot decrypt", "b.example.com")
	if rsaKey.needs == signing.needs {
		t.Error("RSA keys that can and cannot decrypt share their needs, want other ones")
	}
}

func TestThose(t *testing.T) {
	var all []int
	for i := range 1000 {
		all = append(all, i)
	}
	for _, want := range [][]int{nil, {0}, {999}, {0, 1, 500, 998, 999}, all} {
		got := those(all, func(list []int) bool {
			return slices.ContainsFunc(list, func(i int) bool { return slices.Contains(want, i) })
		})
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func BenchmarkLearn(b *testing.B) {
	for b.Loop() {
		learn(testKeys()["P-256"].Public(), false)
	}
}
