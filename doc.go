// Package md gets, renews and serves the TLS certificates of a Go server over
// ACME (RFC 8555), from Let's Encrypt or any other CA that speaks it.
//
// You declare [Domain] values, each a set of names that share certificates. A
// [Manager] looks after them for as long as the server runs: it orders what is
// missing, renews in time, puts new certificates into use without a restart,
// and keeps everything in a [Store]. It is made for servers that run for
// years without anybody looking after their certificates.
//
// # Quick start
//
//	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
//	defer stop()
//	m := &md.Manager{
//		Domains:     []md.Domain{{Names: []string{"example.com", "www.example.com"}}},
//		AcceptTerms: true, // of the CA: Let's Encrypt, if you name no other
//	}
//	if err := m.ListenAndServe(ctx, app); err != nil { // nil after ctx ends
//		log.Fatal(err)
//	}
//
// This listens on ports 80 and 443, gets one certificate for both names, and
// renews it when a third of its life is left. Started again, it orders
// nothing: the certificate is there. There is nothing to close; what was
// started has ended when the method returns.
//
// # Servers of your own
//
// [Manager.ListenAndServe] and [Manager.Serve] are made of parts that can be
// used one by one:
//
//   - [Manager.Check] finds all configuration errors at once.
//   - [Manager.Load] reads the Store, so that what is there is served from the
//     first handshake on. Call it before you open a listener.
//   - [Manager.TLSConfig] is for any TLS server, over net/http or not. For a
//     tls.Config of your own, there are [Manager.GetCertificate] and
//     [Manager.GetConfigForClient].
//   - [Manager.HTTPHandler] goes around the handler of port 80, and
//     [Manager.HTTPSHandler] around that of port 443. Put them before
//     whatever redirects or asks who is there.
//   - [Manager.Run] gets and renews until its context ends. All other methods
//     work without it, with what the Store has.
//   - [Manager.Ready] waits until there are certificates, and says at once if
//     somebody's help is needed.
//
// [Manager.Update] replaces the Domains of a Manager that is running, and
// [Manager.Renew] orders at once, with or without Run.
//
// # What happens at start
//
// The configuration is checked as a whole. If something in it cannot work, all
// methods that return an error say what, and nothing is served.
//
// Then the Store is read, and what it has is served. No CA is contacted for
// that, and nothing waits for one: a restart works while the CA is away. If
// the Store does not answer, Run says so in the log and tries again. Nothing
// is done in the background before Run is called.
//
// A name that has no certificate yet is served a self-signed fallback one.
// Browsers warn of it, and HTTPSHandler answers 503 for that name, so that
// nobody is asked for a password there; other names are not concerned. For
// names that belong to no Domain there is no certificate at all: TLSConfig has
// the alert unrecognized_name sent.
//
// A value in the Store that cannot be read for what it should be is logged
// with its place. It is copied to the archive and made again; the other
// Domains are not concerned.
//
// # Domains
//
// Names may be written as people write them, in Unicode or ASCII, in any case;
// they are converted as browsers do (UTS #46), and two spellings of a name are
// one name. What cannot stand in a certificate is an error: IP addresses,
// underscores, labels of more than 63 bytes, names of more than 253. A name
// belongs to one Domain. A wildcard ("*.example.com") covers names with one
// more label; where such a name is in another Domain itself, that Domain
// serves it.
//
// A Domain has a certificate for each of its KeyTypes, and each client gets
// the first that it can use. Its Name, which is its first DNS name unless you
// say otherwise, is what it is known by in the Store: change Names and keep
// the Name, and what there is serves until the next certificate covers them.
//
// A [CA] is known by name ("letsencrypt", "letsencrypt-staging") or given by
// the URL of its ACME directory, with Roots if its own server has a
// certificate from a private CA. What a Domain leaves zero, Manager.Default
// fills.
//
// # How names are proved
//
// A CA looks whether the names are yours, in one of several ways. Two are
// built in, and one of them is enough:
//
//   - tls-alpn-01 (RFC 8737): it connects to port 443. TLSConfig answers.
//   - http-01: it asks at port 80. HTTPHandler answers, and HTTPSHandler too,
//     since CAs follow redirects.
//
// If the CA refuses one, the next attempt prefers the other. Servers that
// cannot be reached from outside, and wildcards, need a [Challenger] of your
// own for DNS: three methods that make a TXT record visible and take it away
// again. See package challenge, and the example of Challenger here. A Domain
// tries its Challengers in their order; answers are taken away after each
// attempt, and after a crash by the next one.
//
// Answers are kept in the Store. So it does not matter which of several
// processes that share one the CA happens to reach: all of them answer and
// serve, and for each Domain one of them orders. The others take up its
// certificates within a minute.
//
// # Where things are kept
//
// In Manager.Store. Without it, in files: at $STATE_DIRECTORY, which systemd
// sets for a unit with StateDirectory=, or else at md in the user's
// configuration directory.
//
//	accounts/<ca>/<id>    the account at a CA, with its key
//	domains/<name>        keys and certificates in use
//	staging/<name>        those being ordered, or about to be put into use
//	archive/<name>/…      former ones, and copies of what could not be read
//	jobs/<name>           failures, the next attempt, what happened
//	leases/<name>         which process works on the Domain
//	challenges/…          answers to challenges that are going on
//
// Back up accounts and domains; the rest comes back by itself. Nothing removes
// former certificates from the archive but you.
//
// The value of domains/<name> is one PEM text: for each key type a block with
// what is known of the certificate, the private key, and the chain, leaf
// first. With one key type, HAProxy, nginx and openssl can use the file as it
// stands. Do not edit it: its hash is in it, and one that does not
// match is replaced.
//
// The Store holds private keys. [store.Dir] makes files that only their owner
// can read, and on Unix refuses a directory that others may write to. [store.Memory]
// keeps everything in the process, and orders anew at each start: it is for
// tests.
//
// # Renewal and failures
//
// A certificate is renewed when a third of its life is left, or half of it
// where it lives for less than ten days; Domain.RenewWindow says otherwise. A
// window that would begin in the first tenth of a certificate's life is not
// used. Deadlines are met within a minute also after the machine was
// suspended, or its clock set.
//
// What fails is tried again after 30 seconds (Manager.RetryDelay), and then
// after twice that, up to a day, each give or take a half. What will fail
// again until somebody changes something, such as terms that are not accepted,
// is tried once a day. If the CA says when it wants to be asked again, that is
// obeyed, up to two days. Failures and the time of the next attempt are in the
// Store, where they outlast a restart. Once you have repaired what was wrong,
// Renew does not wait for that time.
//
// Up to 32 Domains at a time are worked on at one CA, each attempt for 15
// minutes at most; where a CA asks for more than a minute of patience, the
// order is put aside until then. A Domain that fails does not hold up others.
// While it does, the certificate that there is stays in use, even after its
// end.
//
// A process may be killed at any moment. Keys are stored before a CA hears of
// them, and an order's URL with its key; the next attempt goes on from there,
// be it of this process or another. A new certificate comes into use as a
// whole or not at all, by one write to the Store. If the Store does not take
// it, it is served from memory, and written when the Store does: an issued
// certificate is never thrown away.
//
// # Being told
//
// A [Notifier] hears of each attempt before it is made, of each challenge that
// is set up, of failures with the time of the next attempt, and of
// certificates that were renewed or put into use. The last it hears in every
// process, the others once for all that share a Store. That something was
// renewed is repeated, also after a restart, until it returns nil.
//
// It may veto attempts and challenges with an error that wraps [ErrVeto]; no
// other error stops anything. A vetoed attempt is made at the next regular
// look (Manager.CheckInterval), in place of a vetoed challenge the next type
// is tried.
//
// [Manager.Status] reports how each Domain stands, [status.Text] and
// [status.JSON] serve that over HTTP. The report names all Domains and what
// goes wrong with them: decide who may see it. The log goes to Manager.Logger.
// Neither ever shows a key.
//
// # Trying it
//
// Let's Encrypt has a second CA for trying things out, with generous limits
// and certificates that no browser trusts:
//
//	Default: md.Domain{CAs: []md.CA{{Name: "letsencrypt-staging"}}},
//
// Give it a Store of its own: certificates that are there stay in use until
// their time comes, whichever CA they are from.
//
// Package [github.com/manageddomains/md/acmeclient/acmetest] is a CA for tests
// in the same process, without a network, also inside testing/synctest. The
// example named Testing shows an application with it.
//
// # Why it is so
//
// For those who work on this package; what follows is nothing to rely on.
//
//   - The stored answer to a tls-alpn-01 challenge holds no private key.
//     Whichever process is asked makes a key for that one handshake, so that
//     nothing secret is in the Store for it, and nothing has to be kept in
//     step with the answer.
//   - Whether the Notifier has still to hear of a renewal is not stored as a
//     task. The job has the hash of the certificates that it has accepted, and
//     the event is due while those in use have another. So no crash between
//     two writes can lose it.
//   - Challenge answers are read from the Store in rounds, with nothing
//     remembered between them. A cache of answers that are not there would let
//     anybody who asks ahead of the CA hide one that comes.
//   - A wrong configuration makes GetCertificate return an error that is both
//     ErrNotManaged and the ConfigErrors: a server that has certificates of
//     its own for what is not managed goes on with them.
//   - What is wrong with Manager.Default is reported once, as a field of the
//     Manager, and the Domains are checked as if it had not been said.
//
// # Where things are
//
//   - [github.com/manageddomains/md/store]: where things are kept. Write a
//     Store of your own with four methods; storetest holds its promises.
//   - [github.com/manageddomains/md/acmeclient]: how one speaks to a CA.
//   - [github.com/manageddomains/md/challenge]: how names are proved;
//     challengetest is for Challengers of your own.
//   - [github.com/manageddomains/md/status]: what the world is told.
//
// Each of them can be used without a Manager. Inside, policy decides, engine
// does, record remembers, live serves, and front answers HTTP.
package md
